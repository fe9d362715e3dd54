"""Which call has the key of a task now, and until when?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from celeriac.store.connections import Store


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A call that blocks other calls or runs of its key."""

    policy: str
    """Name of the policy."""
    task_id: str
    """Id of the call."""
    phase: Literal["window", "waiting", "running"]
    """The window of a throttle is open; the call waits for a worker or for its quiet time; the call runs."""
    seconds: float | None
    """When the claim ends unless it is renewed or extended; `None`: with another call's run, or never."""
    name: str = ""
    """The key in Redis that can be deleted to end it; empty: deleting it would lose a call."""

    @classmethod
    def of(cls, policy: str, store: Store, name: str, task_id: str, phase: Any) -> Standing:
        """Describe a claim by its key."""
        left = store.client.pttl(name)
        return cls(policy=policy, task_id=task_id, phase=phase, seconds=left / 1000 if left >= 0 else None, name=name)
