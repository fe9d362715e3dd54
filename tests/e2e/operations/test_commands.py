"""Every command of the operations guide, of troubleshooting and of notifications runs as it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.e2e import pages

from demo import install
from demo.kubernetes import Kube

pytestmark = pytest.mark.alone
NEEDS = ("redis.yaml",)
GUIDE = pages.read("operations/operating.md")
TROUBLESHOOTING = pages.read("operations/troubleshooting.md")
NOTIFICATIONS = pages.read("operations/notifications.md")
MONITORING = install.ROOT / "tests/integration/tools/monitoring-definitions.yaml"
LOOK = "/app/.venv/bin/python -c 'import reports'"  # the same in the examples' image
MY_APP = "my-app"  # the pages' namespace, with the pages' pool


@pytest.fixture
def folder(images: Mapping[str, str], tmp_path: Path) -> Path:
    """A checkout as the reader has it, with the files that the guide tells them to write."""
    pages.write_files(GUIDE + NOTIFICATIONS, tmp_path, images)
    return tmp_path


@pytest.fixture
def readers_cluster(shop, kube: Kube, a_pool) -> Iterator[Kube]:
    """What the guide speaks of: a pool called my-tasks in my-app, and the Prometheus operator's definitions."""
    there = kube.at(MY_APP)
    install.ensure_namespace(there)
    kube.kubectl("apply", "--server-side", "-f", str(MONITORING))
    url = f"redis://:only-an-example@redis.{kube.namespace}:6379/6"
    there.kubectl(
        "create", "secret", "generic", "redis", f"--from-literal=url={url}", f"--from-literal=resultUrl={url}"
    )
    there.apply(a_pool("my-tasks"))
    there.wait_ready("my-tasks", seconds=180)
    yield there
    install.remove_namespace(there)
    kube.kubectl("delete", "-f", str(MONITORING))


@pytest.fixture
def as_it_was(kube: Kube, images: Mapping[str, str]) -> Iterator[None]:
    """The guide ends with removing the chart; the other tests need it, and its namespace for pods that break things."""
    yield
    install.install_chart(kube.programs, images)
    level = "pod-security.kubernetes.io/enforce-"
    kube.kubectl("label", "namespace", install.OPERATOR_NAMESPACE, level)


@pytest.mark.parametrize("page", [GUIDE, TROUBLESHOOTING, NOTIFICATIONS])
def test_every_line_of_a_console_block_is_a_command(page: list[pages.Block]):
    lines = pages.console_lines(page) + pages.console_lines(page, is_run=False)
    assert [line for line in lines if not line.startswith(pages.PROMPT)] == []


@pytest.mark.usefixtures("as_it_was")
def test_the_commands_of_the_guide_run_in_their_order(kube: Kube, folder: Path, readers_cluster: Kube):
    (before,) = readers_cluster.pool_pods("my-tasks")
    said = dict(pages.run(pages.console_lines(GUIDE), folder, kube.programs.environment))

    def of(words: str) -> str:
        return next(text for command, text in said.items() if words in command)

    assert of("get lease/celeriac").startswith("celeriac-")
    assert of("auth can-i").strip() == "yes"
    assert "celeriac_operator_leader 1.0" in of("/metrics")
    assert "prometheusrule.monitoring.coreos.com/celeriac" in of("get podmonitors,prometheusrules")
    (after,) = readers_cluster.pool_pods("my-tasks")
    assert after["metadata"]["uid"] == before["metadata"]["uid"], (
        "nothing that an operator's admin does restarts a worker"
    )


def test_the_commands_of_troubleshooting_and_of_notifications_run(
    kube: Kube, images: Mapping[str, str], folder: Path, readers_cluster: Kube
):
    # Its reader is in the pool's namespace.
    here = folder / "kubeconfig"
    here.write_text(kube.kubectl("config", "view", "--raw", "--flatten"))
    kube.kubectl(f"--kubeconfig={here}", "config", "set-context", "--current", f"--namespace={MY_APP}")
    lines = [
        pages.with_images(line, images).replace("python -c 'import my_app.celery'", LOOK)
        for line in pages.console_lines(TROUBLESHOOTING + NOTIFICATIONS)
    ]
    said = dict(pages.run(lines, folder, {**kube.programs.environment, "KUBECONFIG": str(here)}))
    assert any("my-tasks" in text for command, text in said.items() if command.startswith("kubectl get cwp"))
    assert any("Conditions" in text for command, text in said.items() if command.startswith("kubectl describe"))
