"""A pytest plugin: redis-py's own tests get celeriac.Lock in place of redis-py's lock."""

from __future__ import annotations

import redis.client
import redis.lock

import celeriac

redis.lock.Lock = redis.client.Lock = celeriac.Lock  # type: ignore[misc, assignment]  # that is the purpose
