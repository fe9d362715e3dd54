"""Every command of the quick start runs as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.e2e import pages

from demo import install
from demo.kubernetes import Kube

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml",)
PAGE = pages.read("guides/quickstart.md")
MY_APP = "my-app"


@pytest.fixture
def folder(images: Mapping[str, str], tmp_path: Path) -> Path:
    """A checkout as the reader has it, with the two files that the page tells them to write."""
    pages.write_files(PAGE, tmp_path, images)
    pool = (tmp_path / "pool.yaml").read_text()
    pool = with_my_application(pool).replace("[python]", "[/app/.venv/bin/python]").replace("[celery]", "[reports]")
    (tmp_path / "pool.yaml").write_text(pool)
    return tmp_path


def with_my_application(text: str) -> str:
    """What the reader replaces by names of their own: here those of the example without the library."""
    text = text.replace("my_app.celery:app", "reports:app")
    return text.replace("call my_app.tasks.hello", "call reports.add_up --args='[[1, 2, 3]]'").replace(
        "my_app.tasks.hello", "reports.add_up"
    )


@pytest.fixture
def chart_again(kube: Kube, images: Mapping[str, str]) -> Iterator[None]:
    """The page ends with removing everything; the other tests need the chart."""
    yield
    kube.kubectl("delete", "namespace", MY_APP, "--ignore-not-found")
    install.install_chart(kube.programs, images)


def test_only_what_needs_a_registry_or_an_index_or_deletes_peoples_pools_is_not_run():
    skipped = [block.body.split()[1] for block in PAGE if block.language == "console" and not block.is_run]
    assert skipped == ["docker", "python", "kubectl"]


def test_every_line_of_a_console_block_is_a_command():
    assert [line for line in pages.console_lines(PAGE) if not line.startswith(pages.PROMPT)] == []


@pytest.mark.usefixtures("chart_again")
def test_the_commands_run_in_their_order(shop, kube: Kube, folder: Path):
    redis = f"redis://:only-an-example@redis.{kube.namespace}:6379/5"
    lines = [with_my_application(line) for line in pages.console_lines(PAGE)]
    said = dict(pages.run(lines, folder, {**kube.programs.environment, "BROKER_URL": redis}))

    def of(words: str) -> str:
        return next(text for command, text in said.items() if words in command)

    assert "Task reports.add_up[" in of("succeeded"), "the task of the guide ran, and its log line was found"
    assert "tasks sent to reports" in of("celeriac doctor")
    assert "ready" in of("--tail=20")
