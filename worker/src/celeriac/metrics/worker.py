"""Where do the counts of a worker go?"""

from __future__ import annotations

from collections.abc import Callable

from celeriac import counts
from celeriac.metrics.children import ChildCounts
from celeriac.metrics.tally import Snapshot, Tally


def count_here() -> Callable[[], Snapshot]:
    """Add up the counts of this process and of the processes that it forks. Returns a function that reads the sums."""
    tally = Tally()
    counts.receive_by(tally.receive)
    children = ChildCounts(tally.receive)
    children.start()

    def snapshot() -> Snapshot:
        children.read()
        return tally.snapshot()

    return snapshot
