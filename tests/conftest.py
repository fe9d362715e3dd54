"""What every test needs, in both environments."""

from __future__ import annotations

import importlib.util

import pytest
from hypothesis import HealthCheck, settings

# No deadline: on a busy machine an example takes as long as it takes. The same examples in every run, so that a red run
# can be repeated and does not come up in somebody else's change; `--hypothesis-profile=explore` looks further.
UNHURRIED = {"deadline": None, "print_blob": True, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("repeatable", derandomize=True, **UNHURRIED)
settings.register_profile("explore", max_examples=1000, **UNHURRIED)
settings.load_profile("repeatable")


def pytest_addoption(parser: pytest.Parser) -> None:
    # One pytest.ini serves both environments, but only the operator's has asynchronous code and pytest-asyncio.
    if importlib.util.find_spec("pytest_asyncio") is None:
        for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope"):
            parser.addini(name, "belongs to pytest-asyncio, which this environment does not need")
