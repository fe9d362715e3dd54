"""`python -m celeriac worker` with everything that observes it left out: the other side of the comparison.

No health server, no counting, no reporter, and Celery's own logging set-up. What delivers messages is as always.
"""

from __future__ import annotations

import sys

from celeriac import counts, logs
from celeriac.__main__ import main
from celeriac.health import backlog, server
from celeriac.hooks import counting, requests
from celeriac.metrics import worker


def nothing(*_: object, **__: object) -> None:
    """Instead of a part."""


counts.receive_by(None)
worker.count_here = lambda: nothing  # type: ignore[assignment,return-value]
counting.Counting = requests.Listener  # type: ignore[assignment,misc]
logs.install = nothing
server.HealthServer.start = nothing  # type: ignore[method-assign]
backlog.BacklogWatch.start = nothing  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main(["worker"]))
