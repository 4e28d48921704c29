"""The one error class for what the user can mend: the command line prints it as one sentence and exits with code 2."""

from __future__ import annotations


class UserError(ValueError):
    """Says in one sentence what is wrong, where, and what to do about it."""
