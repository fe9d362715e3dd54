"""(pure) What is asked of a broker, and what does it answer?

BrokerError
├── Unreachable            no answer, or none that can be used; trying again may help
└── AuthenticationFailed   the broker does not take the credentials; new ones are needed
UnusableURL (ValueError)   no broker can be asked by this URL; only another URL helps

The text of each is a sentence for people and holds no credentials.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from celeriac_operator.autoscaling.policy import Figures


class BrokerError(Exception):
    """A broker gave no figures."""


class Unreachable(BrokerError):  # noqa: N818 - reads as what the broker is
    """The broker did not answer in time, or not with what can be used."""


class AuthenticationFailed(BrokerError):  # noqa: N818 - reads as what happened
    """The broker does not take the user or the password."""


class UnusableURL(ValueError):  # noqa: N818 - reads as what is wrong
    """The URL names no broker that can be read."""


@dataclass(frozen=True)
class Watched:
    """A pool whose queues are to be read."""

    pool: str
    """`namespace/name`."""
    queues: tuple[str, ...]
    """As the application spells them, without a prefix; each once."""


@dataclass(frozen=True)
class Reading:
    """What was read for one pool."""

    figures: Figures
    """For the policy; `read_at` is the `now` that the reading was asked with."""
    backlog: Mapping[str, int]
    """Messages ready, by queue; priorities together."""


class Broker(Protocol):
    """One broker. `read` is called by one task at a time; `arrival` may be waited for meanwhile."""

    async def read(
        self, pools: Sequence[Watched], *, now: float, only: Collection[str] | None = None
    ) -> dict[str, Reading]:
        """Read the figures of all pools in one pipelined round trip.

        A pool that the broker refuses to show (its ACL forbids a key, or something else has a queue's name) is missing
        from the answer, and the log says so once.

        Args:
            now: the caller's clock in seconds, for `Figures.read_at`.
            only: names of pools that are enough this time, all known to the last reading; others may be missing.

        Raises:
            Unreachable, AuthenticationFailed: there are no figures of any pool. The next call connects anew.
        """
        ...

    async def arrival(self) -> frozenset[str]:
        """Wait until a queue that the last reading found quiet got its first message; the pools that have it.

        Never raises: while there is no connection nothing arrives, and `read` tells why. Where the broker cannot
        announce arrivals it waits for ever, and the log says so once.
        """
        ...

    async def close(self) -> None:
        """End all connections; a second call changes nothing."""
        ...
