"""An application whose image has a redis-py that is too old for its kombu, as far as kombu can see."""

from __future__ import annotations

import os

import redis
from celery import Celery

redis.VERSION = (3, 1, 0)  # type: ignore[attr-defined]  # what kombu compares
app = Celery("mismatched", broker=os.environ.get("TEST_BROKER"), set_as_current=False)
