"""(pure) Builds the document of a worker that is started by hand.

In a pool the operator writes the document. The flags of the command line override its keys. Outside Kubernetes, where
there is no document, the flags make one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from celeriac.config import contract

DEFAULT_PORT: Final = 8787
DEFAULT_STALLED_SECONDS: Final = 60
DEFAULT_DRAIN_SECONDS: Final = 300
"""The same values that a pool has by default."""


def document(environ: Mapping[str, str], flags: Mapping[str, Any], processors: int = 1) -> str:
    """Return the document from the environment, with the command line's flags applied.

    Outside Kubernetes there may be no document; then the flags make one.

    Args:
        environ: the process's environment.
        flags: dotted keys of the document, and their values.
        processors: number of slots if neither the flags nor the application set one.

    Raises:
        ContractError: neither the document nor the flags say which application to run.
    """
    text = environ.get(contract.CONFIG_VARIABLE)
    if text is not None and not flags:
        return text
    if text is None and "app" not in flags:
        raise contract.ContractError(
            f"there is no document in {contract.CONFIG_VARIABLE} and no --app: in a pool the operator sets the "
            "document; by hand, give --app"
        )
    result = _standalone(processors) if text is None else _as_object(text)
    for dotted, value in flags.items():
        section = result
        *parents, last = dotted.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise contract.ContractError(f"{parent} is {section!r}, it must be a JSON object")
        section[last] = value
    if "worker.concurrency" in flags:
        result["worker"].pop("concurrencyIsDefault", None)
    return json.dumps(result)


def _as_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise contract.ContractError(f"{contract.CONFIG_VARIABLE} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise contract.ContractError(f"{contract.CONFIG_VARIABLE} is not a JSON object")
    return value


def _standalone(processors: int) -> dict[str, Any]:
    """Return the values that the operator fills in for a pool, for a worker that has no pool."""
    return {
        "version": contract.VERSION,
        "pool": {"namespace": "default", "name": "celery"},
        "worker": {"concurrency": processors, "concurrencyIsDefault": True},
        "liveness": {"port": DEFAULT_PORT, "stalledSeconds": DEFAULT_STALLED_SECONDS},
        "drain": {"timeoutSeconds": DEFAULT_DRAIN_SECONDS},
    }
