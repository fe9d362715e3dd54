"""An application whose task leaves a process behind; the reaper is told to hurry."""

from __future__ import annotations

import os
import subprocess

from celery import Celery

from celeriac.hooks import reaper

reaper.SCAN_SECONDS = 0.5  # type: ignore[misc]
reaper.PATIENCE_SECONDS = float(os.environ["ORPHANS_PATIENCE_SECONDS"])  # type: ignore[misc]
app = Celery("orphans", set_as_current=False)


@app.task
def leave_one_behind() -> None:
    # The shell ends at once; what it has started is given to process 1, and ends a little later.
    subprocess.run(["sh", "-c", "sleep 0.2 & exit 0"], check=True)


@app.task
def leave_none_behind() -> str:
    return "fine"
