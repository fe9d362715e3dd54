"""An application that has set Sentry up itself."""

from __future__ import annotations

import os
from typing import Any

import sentry_sdk
from celery import Celery, signals


def mark(event: Any, _hint: Any) -> Any:
    event.setdefault("tags", {})["own"] = "yes"
    return event


def init(**_: Any) -> None:
    sentry_sdk.init(dsn="http://own@127.0.0.1:9/1", before_send=mark, environment="own", release="own@1")


if signal := os.environ.get("TEST_INIT_SIGNAL"):
    getattr(signals, signal).connect(init)
else:
    init()
app = Celery("with_sentry", set_as_current=False)


@app.task
def plain() -> None:
    raise ValueError("it broke")
