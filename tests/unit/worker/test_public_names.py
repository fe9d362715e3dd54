"""The package's surface: what it exports, and what importing it costs."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from celery.utils.dispatch import Signal

import celeriac
from celeriac.config import installed


def test_names_are_sorted_and_there() -> None:
    assert list(celeriac.__all__) == sorted(celeriac.__all__)
    for name in celeriac.__all__:
        value = getattr(celeriac, name)
        assert (value.name if isinstance(value, Signal) else value.__name__) == name  # a signal has a name of its own
    assert set(celeriac.__all__) <= set(dir(celeriac))


def test_every_lazy_name_is_public_and_every_public_name_is_lazy() -> None:
    assert set(celeriac._HOMES) == set(celeriac.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Lokc'"):
        celeriac.Lokc  # type: ignore[attr-defined]  # noqa: B018 - reading it is the test


def test_the_version_is_that_of_the_distribution() -> None:
    assert celeriac.__version__ == importlib.metadata.version("celeriac")


def test_a_copy_of_the_source_knows_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    installed_as = importlib.metadata.version("celeriac")
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert installed.version() == installed_as
    assert installed.version("celery") == "unknown"


def test_importing_the_package_loads_neither_celery_nor_redis() -> None:
    code = "import sys, celeriac; print(sorted({'celery', 'kombu', 'redis'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


COST = """
import time
start = time.process_time()
from celery import Celery
import celery.app.task, celery.canvas, celery.worker.state, kombu.transport.redis, redis.backoff, redis.retry
bare = time.process_time() - start

def resident_kib():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))

app = Celery("bare", broker="redis://", set_as_current=False)
app.finalize()
began, memory = time.process_time(), resident_kib()
import celeriac

@app.task(base=celeriac.Task, policy=[celeriac.Debounce("user", seconds=1), celeriac.Exclusive("user")])
def task(user): ...

task.bind(app)
print((time.process_time() - began) / bare, resident_kib() - memory)
"""


def test_a_task_with_policies_costs_a_bare_application_little() -> None:
    """What a Celery application with a Redis broker has loaded anyway is not counted."""
    done = subprocess.run([sys.executable, "-c", COST], capture_output=True, text=True, check=True)
    share, kib = map(float, done.stdout.split())
    assert share < 0.12, f"{share:.2f} of the CPU time that importing Celery and its Redis transport takes"
    assert kib < 8 * 1024


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(celeriac.__file__).parent / "py.typed").exists()
