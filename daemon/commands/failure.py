"""A verb that could not do what it was asked."""

from __future__ import annotations


class Failed(Exception):
    """Ends the verb with exit code 1; the message says what happened and what to do."""
