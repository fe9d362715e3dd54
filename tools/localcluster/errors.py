"""What ends a command with one sentence instead of a traceback."""

from __future__ import annotations


class LocalClusterError(Exception):
    """Something the person can act on; its text says what happened and what to do."""


class CommandError(LocalClusterError):
    """A program that was run here failed; the text carries its own last words."""
