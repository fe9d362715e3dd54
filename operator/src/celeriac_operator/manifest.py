"""(pure) What is a Kubernetes object to the operator? Plain data, as the API server's JSON has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Manifest = Mapping[str, Any]
"""An object, or a part of one, that nobody changes."""

Draft = dict[str, Any]
"""An object that is being built."""
