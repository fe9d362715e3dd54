"""Fixtures for an application's own tests, which pytest finds by itself where the library is installed.

Nothing happens, and nothing of Celery is imported, until a test asks for one of them. `-p no:celeriac` leaves them out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from celeriac.testing import Calls

OPTION = "celeriac_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let pytest.ini name the application."""
    parser.addini(OPTION, "the Celery application of the fixture celeriac_calls, as for `celery -A`", default="")


@pytest.fixture
def celeriac_app(request: pytest.FixtureRequest) -> Any:
    """The Celery application under test; a fixture of this name in conftest.py takes its place."""
    name = request.config.getini(OPTION)
    if not name:
        raise pytest.UsageError(
            f"celeriac_calls needs an application: set {OPTION} = shop.celery:app in pytest.ini, or define the fixture "
            "celeriac_app in conftest.py"
        )
    from celery.app.utils import find_app

    return find_app(name)


@pytest.fixture
def celeriac_calls(celeriac_app: Any) -> Iterator[Calls]:
    """The calls of the application, decided, queued and run in the test: see `celeriac.testing`."""
    from celeriac import testing

    with testing.policies(celeriac_app) as calls:
        yield calls
