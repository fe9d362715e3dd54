"""Who listens to what is counted in a worker?"""

from __future__ import annotations

from collections.abc import Callable

from celeriac import counts
from celeriac.metrics.children import ChildCounts
from celeriac.metrics.tally import Snapshot, Tally


def count_here() -> Callable[[], Snapshot]:
    """Make this process the one that counts, for itself and for those it forks; what reads the sums."""
    tally = Tally()
    counts.receive_by(tally.receive)
    children = ChildCounts(tally.receive)
    children.start()

    def snapshot() -> Snapshot:
        children.read()
        return tally.snapshot()

    return snapshot
