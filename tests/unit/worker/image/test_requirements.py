"""What a worker requires of its image before it starts."""

from __future__ import annotations

import pytest
from celery import Celery

from celeriac.config import contract
from celeriac.config.application import Start
from celeriac.exits import Exit, GivingUpError
from celeriac.image import requirements


def a_start(broker: str) -> Start:
    config = contract.Config(
        pool=contract.Pool(namespace="shop", name="emails"),
        app="shop",
        worker=contract.Worker(concurrency=1),
        liveness=contract.Liveness(port=8787, stalled_seconds=60),
        drain=contract.DrainLimit(timeout_seconds=300),
    )
    app = Celery("unit", broker=broker, set_as_current=False)
    return Start(app=app, config=config, environment=contract.Environment(pod_name="pod-1"), own={}, laid=[])


@pytest.mark.parametrize(
    ("broker", "found", "gives_up"),
    [
        pytest.param("redis://", {"redis": (3, 1)}, True, id="a redis-py that kombu refuses"),
        pytest.param("redis://", {"redis": (4, 1)}, True, id="one that the library does not run with"),
        pytest.param("redis://", {"redis": (4, 4)}, False, id="one that it runs with"),
        pytest.param("redis://", {}, False, id="none, of which Celery says so"),
        pytest.param("amqp://", {"redis": (3, 1)}, False, id="a broker that needs none"),
    ],
)
def test_a_redis_py_that_is_too_old_is_one_sentence(
    broker: str, found: dict[str, tuple[int, ...]], gives_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "releases", lambda _: found)
    if not gives_up:
        requirements.require_releases(a_start(broker))
        return
    with pytest.raises(GivingUpError, match=r"needs 4\.2 or later") as raised:
        requirements.require_releases(a_start(broker))
    assert raised.value.code == Exit.CONFIGURATION
