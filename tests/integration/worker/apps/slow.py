"""An application that takes its time to import."""

from __future__ import annotations

import os
import time
from pathlib import Path

from celery import Celery

(Path(os.environ["TEST_DIRECTORY"]) / "importing").write_text("yes\n")
time.sleep(30)
app = Celery("slow", set_as_current=False)
