"""Which fields may the patch of a pod's spec have? Their types, and what the worker's container keeps for itself.

Only the first level has types, since the definition of a whole pod is larger than all other fields of a pool. Fields
that are not listed are kept: a newer Kubernetes may know them. If the API server does not, the pool is Stalled with
reason InvalidTemplate.
"""

from __future__ import annotations

from pydantic.config import JsonDict
from pydantic.types import JsonValue

from celeriac_operator.resource.base import RULES, Rule

OPEN = "x-kubernetes-preserve-unknown-fields"

# The fields of core/v1 PodSpec by type; a test compares them with the API server. The lists of containers are below.
LISTS = (
    "ephemeralContainers hostAliases imagePullSecrets readinessGates resourceClaims schedulingGates tolerations "
    "topologySpreadConstraints volumes"
)
OBJECTS = "affinity dnsConfig nodeSelector os overhead resources securityContext workloadRef"
TEXTS = (
    "dnsPolicy hostname hostnameOverride nodeName preemptionPolicy priorityClassName restartPolicy "
    "runtimeClassName schedulerName serviceAccount serviceAccountName subdomain"
)
SWITCHES = (
    "automountServiceAccountToken enableServiceLinks hostIPC hostNetwork hostPID hostUsers setHostnameAsFQDN "
    "shareProcessNamespace"
)
NUMBERS = "activeDeadlineSeconds priority terminationGracePeriodSeconds"

CONTAINERS = ("containers", "initContainers")

MAX_ITEMS = 64
MAX_TEXT = 1024

KEEPS_COMMAND = Rule(
    cel="!has(self.name) || self.name != 'worker' || !(has(self.command) || has(self.args))",
    message="command and args of the worker's container start the worker, so a template cannot replace them: use "
    "worker.python for what starts Python (an entry point goes first), and worker.extraArgs for arguments",
)

# An item is named, or it is a directive for the whole list, such as {$patch: replace}.
CONTAINER: JsonDict = {
    "type": "object",
    OPEN: True,
    "anyOf": [{"required": ["name"]}, {"required": ["$patch"]}],
    "properties": {
        "name": {
            "type": "string",
            "minLength": 1,
            "maxLength": 63,
            "description": "Name of the container; the worker's is worker.",
        },
        "command": {
            "type": "array",
            "nullable": True,
            "maxItems": 1024,
            "items": {"type": "string", "maxLength": 131_072},
            "description": "Command of a further container; that of the worker's is the operator's.",
        },
        "args": {
            "type": "array",
            "nullable": True,
            "maxItems": 1024,
            "items": {"type": "string", "maxLength": 131_072},
            "description": "Arguments of a further container; those of the worker's are the operator's.",
        },
    },
    RULES: [KEEPS_COMMAND.manifest()],
}


def _field(name: str, schema: JsonDict) -> JsonDict:
    """Build the schema of a field; null removes the field, as in every merge patch."""
    return {**schema, "nullable": True, "description": f"As {name} of a pod's spec; null removes it."}


def _fields() -> dict[str, JsonValue]:
    item: JsonDict = {"type": "object", OPEN: True}
    kinds: dict[str, JsonDict] = {
        **{name: {"type": "array", "maxItems": 1024, "items": item} for name in LISTS.split()},
        **{name: {"type": "array", "maxItems": MAX_ITEMS, "items": CONTAINER} for name in CONTAINERS},
        **dict.fromkeys(OBJECTS.split(), item),
        **{name: {"type": "string", "maxLength": MAX_TEXT} for name in TEXTS.split()},
        **{name: {"type": "boolean"} for name in SWITCHES.split()},
        **{name: {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1} for name in NUMBERS.split()},
    }
    return {name: _field(name, kinds[name]) for name in sorted(kinds)}


POD_SPEC: JsonDict = {"properties": _fields()}
