"""Which errors does the operator raise on purpose?

OperatorError
├── StartError        the operator cannot run here; the message says what to do
└── ApiError          the API server refused a request or did not respond
"""

from __future__ import annotations


class OperatorError(Exception):
    """Base of all errors that the operator raises on purpose."""


class StartError(OperatorError):
    """The operator cannot run here; the message says what to do."""


class ApiError(OperatorError):
    """The API server refused a request or did not respond."""

    status: int
    """HTTP status; 0: no response."""
    reason: str
    """The reason that the API server gives, for example NotFound."""
    message: str
    """The API server's sentence."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{message} ({status} {reason})" if status else message)
        self.status = status
        self.reason = reason
        self.message = message
