"""Every command of the quick start runs as it is written."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from demo import install
from demo.kubernetes import Kube

NEEDS = ("redis.yaml",)
TEXT = (install.ROOT / "docs/quickstart.md").read_text()
BLOCK = re.compile(
    r"(?P<skipped><!-- not run by the tests: [^\n]+ -->\n)?```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL
)
MY_APP = "my-app"


def blocks(language: str, *, skipped: bool = False) -> list[str]:
    """The page's blocks of a language, those that are run or those that are not."""
    return [
        found["body"]
        for found in BLOCK.finditer(TEXT)
        if found["language"] == language and bool(found["skipped"]) == skipped
    ]


def commands() -> list[str]:
    """Every command that a reader is told to type."""
    return [line.removeprefix("$ ") for block in blocks("console") for line in block.splitlines()]


@pytest.fixture
def folder(images: Mapping[str, str], tmp_path: Path) -> Path:
    """A checkout as the reader has it, with the two files that the page tells them to write."""
    (tmp_path / "charts").symlink_to(install.ROOT / "charts")
    values, pool = blocks("yaml")
    operator, worker = (install.split(images[name]) for name in ("celeriac-operator", "celeriac-worker"))
    for repository, (real, tag) in (("operator", operator), ("worker", worker)):
        values = values.replace(f"registry.example/me/celeriac-{repository}", f"{real}, tag: {tag}")
    pool = pool.replace("my_app.celery:app", "reports:app").replace("[python]", "[/app/.venv/bin/python]")
    pool = pool.replace("registry.example/me/my-app:1.0", images["celeriac-demo-plain"])
    (tmp_path / "my-values.yaml").write_text(values)
    (tmp_path / "pool.yaml").write_text(pool)
    return tmp_path


@pytest.fixture
def chart_again(kube: Kube, images: Mapping[str, str]) -> Iterator[None]:
    """The page ends with removing everything; the other tests need the chart."""
    yield
    kube.kubectl("delete", "namespace", MY_APP, "--ignore-not-found")
    install.install_chart(kube.programs, images)


def test_only_what_needs_a_registry_or_deletes_peoples_pools_is_not_run():
    assert [block.split()[1] for block in blocks("console", skipped=True)] == ["docker", "kubectl"]


def test_every_line_of_a_console_block_is_a_command():
    assert [line for block in blocks("console") for line in block.splitlines() if not line.startswith("$ ")] == []


@pytest.mark.usefixtures("chart_again")
def test_the_commands_run_in_their_order(shop, kube: Kube, folder: Path):
    redis = f"redis://:only-an-example@redis.{kube.namespace}:6379/5"
    environment = {**kube.programs.environment, "BROKER_URL": redis}
    said = {}
    for command in commands():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        said[command] = done.stdout
    assert "ready" in next(text for command, text in said.items() if " logs " in command)
