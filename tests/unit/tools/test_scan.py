"""The scan for known vulnerabilities finds, and never passes over in silence what it could not ask."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import tomllib

from localcluster.images import Image
from localcluster.paths import CHECKOUT

LOCK = """\
# This file was made by uv.
amqp==5.4.2 \\
    --hash=sha256:00 \\
    --hash=sha256:01
    # via kombu
async-timeout==5.0.1 ; python_full_version < '3.11.3' \\
    --hash=sha256:02
redis[hiredis]==8.1.0 \\
    --hash=sha256:03
"""
UNREACHABLE = "error: Request failed\n  cause: dns error\n  cause: no such host"


@pytest.fixture
def scan() -> ModuleType:
    loader = SourceFileLoader("scan", str(CHECKOUT / "tools/scan"))
    specification = importlib.util.spec_from_loader("scan", loader)
    assert specification is not None
    module = importlib.util.module_from_spec(specification)
    loader.exec_module(module)
    return module


def program(path: Path, *, code: int, out: str = "", err: str = "") -> str:
    """A program that says this, keeps what it was asked beside it, and ends so."""
    says = f"cat <<'OUT'\n{out}\nOUT\ncat >&2 <<'ERR'\n{err}\nERR\n"
    path.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> {path}.asked\n{says}exit {code}\n")
    path.chmod(0o755)
    return str(path)


def test_a_lock_is_read_with_its_markers_and_without_its_hashes(scan: ModuleType):
    pins = ["amqp==5.4.2", "async-timeout==5.0.1 ; python_full_version < '3.11.3'", "redis[hiredis]==8.1.0"]
    assert scan.pins(LOCK) == pins
    assert tomllib.loads(scan.project(pins))["project"]["dependencies"] == pins


def test_every_lock_of_the_repository_is_scanned_and_pins_something(scan: ModuleType):
    locks = {str(path.relative_to(CHECKOUT)) for path in scan.locks()}
    assert {"operator/requirements.lock", "worker/requirements.lock", "tools/requirements.lock"} <= locks
    assert [path for path in scan.locks() if not scan.pins(path.read_text())] == []


@pytest.mark.parametrize(
    ("said", "outcome", "says"),
    [
        pytest.param({"code": 0}, 0, "no known vulnerability in ", id="nothing is known"),
        pytest.param({"code": 1, "out": "redis 8.1.0 has 1"}, 1, "redis 8.1.0 has 1", id="something is known"),
        pytest.param({"code": 2, "err": UNREACHABLE}, 2, "NOT RUN: no vulnerability database", id="nobody answers"),
    ],
)
def test_dependencies(scan, tmp_path: Path, capsys, said: dict[str, Any], outcome: int, says: str):
    assert scan.scan_dependencies(program(tmp_path / "uv", **said), "") == outcome
    assert says in capsys.readouterr().out


def test_images_are_not_scanned_without_a_scanner_and_it_says_so(scan, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert scan.scan_images() == 2
    assert "NOT RUN: there is no trivy on the path" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "outcome", "says"),
    [
        pytest.param(0, 0, "nothing severe", id="nothing is known"),
        pytest.param(3, 1, "openssl", id="something is known"),
        pytest.param(1, 2, "NOT RUN: no such host", id="its database is out of reach"),
    ],
)
def test_images(scan, tmp_path: Path, monkeypatch, capsys, code: int, outcome: int, says: str):
    built = [
        Image("celeriac-operator", "localhost/operator:1", tmp_path / "o.tar"),
        Image("w", "localhost/w:1", None),
    ]
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(scan.providers, "current", lambda: SimpleNamespace(name="embedded", image_prefix="localhost"))
    monkeypatch.setattr(scan.images, "build", lambda *_arguments, **_options: built)
    program(tmp_path / "trivy", code=code, out="openssl", err="fatal\nno such host")
    assert scan.scan_images() == outcome
    assert says in capsys.readouterr().out
    first, second = (tmp_path / "trivy.asked").read_text().splitlines()
    assert first.endswith(f"--input {tmp_path}/o.tar")
    assert second.endswith(" localhost/w:1")


@pytest.mark.parametrize(
    ("options", "code"), [pytest.param([], 2, id="alone"), pytest.param(["--if-possible"], 0, id="as a part of lint")]
)
def test_what_was_not_run_is_a_failure_unless_it_is_allowed(scan, tmp_path, monkeypatch, capsys, options, code: int):
    uv = program(tmp_path / "uv", code=2, err=UNREACHABLE)
    monkeypatch.setattr("sys.argv", ["scan", "--only", "dependencies", "--uv", uv, *options])
    assert scan.main() == code
    assert "NOT RUN" in capsys.readouterr().out


def test_a_finding_is_a_failure_in_any_case(scan, tmp_path, monkeypatch, capsys):
    uv = program(tmp_path / "uv", code=1, out="redis 8.1.0 has 1 known vulnerability")
    monkeypatch.setattr("sys.argv", ["scan", "--only", "dependencies", "--if-possible", "--uv", uv])
    assert scan.main() == 1
    assert "redis 8.1.0" in capsys.readouterr().out
