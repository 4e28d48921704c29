"""Regression: pictures with numbers in a table to a judged model. The task is slice.py."""
