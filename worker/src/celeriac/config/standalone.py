"""(pure) The document of a worker that is started by hand.

In a pool the operator writes the document. Outside Kubernetes, and to try something out inside it, the command line's
flags are laid over it key by key, or make one where there is none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from celeriac.config import contract

DEFAULT_PORT: Final = 8787
DEFAULT_STALLED_SECONDS: Final = 60
DEFAULT_DRAIN_SECONDS: Final = 300
"""The values that a pool has, too, when nobody sets any."""


def document(environ: Mapping[str, str], flags: Mapping[str, Any], processors: int = 1) -> str:
    """The document from the environment with the command line's flags laid over it.

    Outside Kubernetes there may be no document: the flags then make one.

    Args:
        environ: the process's environment.
        flags: dotted keys of the document, and their values.
        processors: slots where neither the flags nor the application name a number.

    Raises:
        ContractError: neither says which application to run.
    """
    text = environ.get(contract.CONFIG_VARIABLE)
    if text is not None and not flags:
        return text
    if text is None and "app" not in flags:
        raise contract.ContractError(
            f"there is neither a document in {contract.CONFIG_VARIABLE} nor --app: in a pool the operator sets the "
            "former, by hand give the latter"
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
    """What the operator resolves for a pool, for a worker that has none."""
    return {
        "version": contract.VERSION,
        "pool": {"namespace": "default", "name": "celery"},
        "worker": {"concurrency": processors, "concurrencyIsDefault": True},
        "liveness": {"port": DEFAULT_PORT, "stalledSeconds": DEFAULT_STALLED_SECONDS},
        "drain": {"timeoutSeconds": DEFAULT_DRAIN_SECONDS},
    }
