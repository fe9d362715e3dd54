"""An application that has set Sentry up itself."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from celery import Celery


def mark(event: Any, _hint: Any) -> Any:
    event.setdefault("tags", {})["own"] = "yes"
    return event


sentry_sdk.init(dsn="http://own@127.0.0.1:9/1", before_send=mark, environment="own", release="own@1")
app = Celery("with_sentry", set_as_current=False)


@app.task
def plain() -> None:
    raise ValueError("it broke")
