"""What could not be done, for a person to read."""

from __future__ import annotations


class Failed(Exception):
    """Ends the verb with exit code 1; the message says what happened and what to do."""
