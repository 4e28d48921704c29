"""Detection: pictures with boxes and outlines, in any format, to a judged detector. The task is slice.py."""
