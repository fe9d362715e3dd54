"""What ends a command with one sentence instead of a traceback."""

from __future__ import annotations


class LocalClusterError(Exception):
    """An error that a person can act on; its text says what happened and what to do."""


class CommandError(LocalClusterError):
    """A program failed; the text has the end of its output."""
