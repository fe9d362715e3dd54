"""An application that tells where its packages come from."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from celery import Celery

app = Celery("injected", set_as_current=False)


@app.task
def where() -> dict[str, Any]:
    files = {name: importlib.import_module(name).__file__ for name in ("celery", "celeriac", "redis")}
    return {**files, "path": sys.path}


@app.task(bind=True)
def logs(self: Any) -> str:
    name: str = self.logger.logger.name
    return name
