"""Classification: pictures of one class each, or a table of labels, to a judged model. The task is slice.py."""
