"""(pure) What does an error reply of Redis mean: can waiting help, and what can a person do?

An error begins with a prefix in capitals (https://redis.io/docs/latest/develop/reference/errors/). Every prefix of a
redis-server is in the table below, and a test compares the table with the server's program. An error that is not in the
table, such as a module's, counts as a mistake.
"""

from __future__ import annotations

import enum
import re
from typing import Final


class Kind(enum.Enum):
    """What to do about an error."""

    OUTAGE = "outage"
    """The server refuses temporarily. Wait, as if it could not be reached."""
    REFUSAL = "refusal"
    """The server refuses until its settings or this client's settings are changed. Wait too, and log the reason."""
    MISTAKE = "mistake"
    """The request or the data is wrong. The same request fails again, so waiting does not help."""


CLUSTER: Final = "it is a node of a Redis Cluster, which Celery does not support as a broker"

PREFIXES: Final[dict[str, tuple[Kind, str]]] = {
    "BUSY": (Kind.OUTAGE, "a script or a function keeps it busy; SCRIPT KILL or FUNCTION KILL ends that one"),
    "CLUSTERDOWN": (Kind.OUTAGE, "its cluster is down"),
    "FAILOVER": (Kind.OUTAGE, "it hands over to a replica"),
    "INPROG": (Kind.OUTAGE, "a failover is in progress"),
    "IOERR": (Kind.OUTAGE, "it cannot reach another server"),
    "LOADING": (Kind.OUTAGE, "it loads its data"),
    "MASTERDOWN": (Kind.OUTAGE, "it is a replica that has lost its primary"),
    "MISCONF": (Kind.OUTAGE, "it cannot write to its disk, and so refuses changes"),
    "NOGOODSLAVE": (Kind.OUTAGE, "no replica is fit to take over"),
    "NOMASTERLINK": (Kind.OUTAGE, "it is a replica that has lost its primary"),
    "NOQUORUM": (Kind.OUTAGE, "too few sentinels are there to agree"),
    "NOREPLICAS": (Kind.OUTAGE, "it has fewer replicas than min-replicas-to-write asks for"),
    "OOM": (Kind.OUTAGE, "it has reached maxmemory"),
    "READONLY": (Kind.OUTAGE, "it is a replica, as after a failover"),
    "TRYAGAIN": (Kind.OUTAGE, "its cluster moves data"),
    "UNBLOCKED": (Kind.OUTAGE, "it became a replica"),
    "ASK": (Kind.REFUSAL, CLUSTER),
    "DENIED": (Kind.REFUSAL, "it is in protected mode: it has no password and accepts local connections only"),
    "MOVED": (Kind.REFUSAL, CLUSTER),
    "NOAUTH": (Kind.REFUSAL, "it wants a password"),
    "NOPERM": (
        Kind.REFUSAL,
        "its ACL does not give this user the rights that a worker needs, which docs/guides/delivery.md lists",
    ),
    "NOPROTO": (Kind.REFUSAL, "it does not speak this version of the protocol"),
    "REDIRECT": (Kind.REFUSAL, "it is a replica that sends its clients to the primary"),
    "WRONGPASS": (Kind.REFUSAL, "it refuses the user or the password"),
    "BUSYGROUP": (Kind.MISTAKE, "a consumer group exists already"),
    "BUSYKEY": (Kind.MISTAKE, "a key exists already"),
    "CROSSSLOT": (Kind.MISTAKE, "keys of one request belong to different slots"),
    "ERR": (Kind.MISTAKE, "it does not accept the request"),
    "EXECABORT": (Kind.MISTAKE, "a command of a transaction was refused"),
    "INVALIDOBJ": (Kind.MISTAKE, "a value cannot be read"),
    "NOGROUP": (Kind.MISTAKE, "a consumer group does not exist"),
    "NOSCRIPT": (Kind.MISTAKE, "it does not have the script"),
    "NOTBUSY": (Kind.MISTAKE, "no script runs"),
    "UNKILLABLE": (Kind.MISTAKE, "a script cannot be ended"),
    "WRONGTYPE": (Kind.MISTAKE, "a key has another type than it should have"),
}

_PREFIXES_BY_CLASS: Final = {
    "AskError": "ASK",
    "BusyLoadingError": "LOADING",
    "ClusterDownError": "CLUSTERDOWN",
    "MasterDownError": "MASTERDOWN",
    "MovedError": "MOVED",
    "NoPermissionError": "NOPERM",
    "OutOfMemoryError": "OOM",
    "ReadOnlyError": "READONLY",
    "TryAgainError": "TRYAGAIN",
}
"""redis-py removes the prefix from the text of errors that have their own class."""

WITHOUT_PREFIX: Final = {
    "max number of clients": "OUTAGE_CLIENTS",
    "ACL failure in script": "NOPERM",  # Redis 7
    "The user executing the script can't": "NOPERM",  # Redis 6
    "has no permissions to": "NOPERM",
}
"""Text of an `ERR` -> the prefix that describes the error better."""

PIPELINE: Final = " of pipeline caused error: "
"""redis-py puts this text between the command with its arguments and the error."""

_INNER: Final = re.compile(r"(?:^|[: ]-)([A-Z]{3,})(?= )")
"""The prefix of an error, and of the one inside the error of a script (Redis 6)."""


def said(text: str) -> str:
    """Return the server's text without the command that redis-py adds: the arguments may contain anything."""
    return text.rpartition(PIPELINE)[2]


def prefix_of(text: str) -> str:
    """Return the prefix of an error, or of the error inside a script's error; "" if there is none."""
    for words, prefix in WITHOUT_PREFIX.items():
        if words in text:
            return prefix
    found = [it for it in _INNER.findall(said(text)) if it in PREFIXES]
    return found[-1] if found else ""


def kind_of(text: str) -> Kind:
    """What to do about an error."""
    prefix = prefix_of(text)
    return Kind.OUTAGE if prefix == "OUTAGE_CLIENTS" else PREFIXES.get(prefix, PREFIXES["ERR"])[0]


def meaning_of(text: str) -> str:
    """Return what an error means, to follow "The broker ... refuses requests:"; never contains the error's text."""
    prefix = prefix_of(text)
    return "it has no connection left" if prefix == "OUTAGE_CLIENTS" else PREFIXES.get(prefix, PREFIXES["ERR"])[1]


def text_of(error: BaseException) -> str:
    """Return the server's text, with the prefix of the error."""
    words = said(str(error))
    prefix = _PREFIXES_BY_CLASS.get(type(error).__name__, "")
    return f"{prefix} {words}" if prefix and not words.startswith(prefix) else words


def is_worth_waiting(error: BaseException) -> bool:
    """Return whether this is an error reply of Redis after which the same request may succeed later."""
    is_reply = any(cls.__name__ == "ResponseError" for cls in type(error).__mro__)  # redis may not be installed
    return is_reply and kind_of(text_of(error)) is not Kind.MISTAKE
