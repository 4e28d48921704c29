"""Checkpoint files: found, opened safely, translated, adapted, written."""
