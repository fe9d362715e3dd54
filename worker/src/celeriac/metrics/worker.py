"""Where do the counts of a worker go?"""

from __future__ import annotations

from collections.abc import Callable

from celeriac import counts
from celeriac.metrics.children import ChildCounts
from celeriac.metrics.tally import Snapshot, Tally


def count_here() -> Callable[[], Snapshot]:
    """Let this process count for itself and for the processes that it forks; return what reads the sums."""
    tally = Tally()
    counts.receive_by(tally.receive)
    children = ChildCounts(tally.receive)
    children.start()

    def snapshot() -> Snapshot:
        children.read()
        return tally.snapshot()

    return snapshot
