"""What every test needs, in both environments."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    # One pytest.ini serves both environments, but only the operator's has asynchronous code and pytest-asyncio.
    if importlib.util.find_spec("pytest_asyncio") is None:
        for name in ("asyncio_mode", "asyncio_default_fixture_loop_scope"):
            parser.addini(name, "belongs to pytest-asyncio, which this environment does not need")
