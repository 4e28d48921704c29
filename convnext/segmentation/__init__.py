"""Segmentation: pictures with masks to a judged segmenter. The task is slice.py."""
