"""Errors of the operator's own.

OperatorError
├── StartError        the operator cannot run here; the text says what a person must do
└── ApiError          the API server refused or did not answer
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of all errors that the operator raises on purpose."""


class StartError(OperatorError):
    """The operator cannot run here; the text says what a person must do."""


class ApiError(OperatorError):
    """The API server refused a request, or did not answer it."""

    status: int
    """HTTP status; 0: there was no answer."""
    reason: str
    """The reason that the API server gives, for example NotFound."""
    message: str
    """The API server's sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
