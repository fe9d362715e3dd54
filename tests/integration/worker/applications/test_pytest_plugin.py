"""The fixture for applications' tests: off until a test asks for it, and plain about what is missing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHOP = """
from celery import Celery
import celeriac
app = Celery("shop", broker="redis://", backend="redis://")
@app.task(base=celeriac.Task, policy=celeriac.Throttle(key="user", seconds=30))
def notify(user): return f"told {user}"
"""
ASKS = """
from shop import notify
def test_once(celeriac_calls):
    first, second = notify.delay("ann"), notify.delay("ann")
    celeriac_calls.run()
    assert first.id == second.id and first.get() == "told ann"
"""
OWN = "import pytest\n@pytest.fixture\ndef celeriac_app():\n    from shop import app\n    return app\n"
IDLE = "import sys\ndef test_nothing():\n    assert not {'celery', 'redis', 'celeriac.testing'} & set(sys.modules)\n"


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        pytest.param(
            {"test_shop.py": ASKS, "pytest.ini": "[pytest]\nceleriac_app = shop:app"}, 0, "1 passed", id="ini"
        ),
        pytest.param({"test_shop.py": ASKS, "conftest.py": OWN}, 0, "1 passed", id="an own fixture"),
        pytest.param({"test_shop.py": ASKS}, 1, "celeriac_calls needs an application: set celeriac_app", id="neither"),
        pytest.param({"test_idle.py": IDLE}, 0, "1 passed", id="not asked for: nothing is imported"),
    ],
)
def test_a_tests_fixture(files: dict[str, str], code: int, said: str, tmp_path: Path) -> None:
    for name, text in {"shop.py": SHOP, "pytest.ini": "[pytest]", **files}.items():
        (tmp_path / name).write_text(text)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-p",
        "no:hypothesispytest",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said in done.stdout
    assert done.returncode == code, done.stdout
