"""Mask R-CNN, Cascade Mask R-CNN and Faster R-CNN, part by part."""
