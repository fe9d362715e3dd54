"""The order of providers, and what each is asked to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcluster import __main__ as commands
from localcluster import kind, providers
from localcluster.errors import LocalClusterError
from localcluster.paths import Cache

NAMED = {"KUBECONFIG": "/home/x/.kube/config", "CELERIAC_USE_CLUSTER": "1"}


@pytest.mark.parametrize(
    ("environ", "has_docker", "expected"),
    [
        pytest.param({}, False, "embedded", id="no Docker"),
        pytest.param({}, True, "kind", id="Docker works"),
        pytest.param(NAMED, True, "named", id="a cluster is named on purpose"),
        pytest.param({"KUBECONFIG": "/x"}, False, "embedded", id="KUBECONFIG alone is an accident"),
        pytest.param({**NAMED, "CELERIAC_USE_CLUSTER": "0"}, True, "kind", id="CELERIAC_USE_CLUSTER=0 means no"),
        pytest.param({"CELERIAC_PROVIDER": "embedded"}, True, "embedded", id="embedded although Docker works"),
        pytest.param({**NAMED, "CELERIAC_PROVIDER": "kind"}, True, "named", id="a named cluster comes first"),
    ],
)
def test_the_provider_is_chosen_by_the_first_that_applies(
    environ: dict[str, str], has_docker: bool, expected: str
) -> None:
    assert providers.choose(environ, has_docker=has_docker) == expected


def test_docker_that_was_started_later_does_not_hide_the_cluster_that_runs() -> None:
    assert providers.choose({}, has_docker=True, embedded_runs=True) == "embedded"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"CELERIAC_USE_CLUSTER": "1"}, "needs KUBECONFIG too"),
        ({"CELERIAC_PROVIDER": "minikube"}, "it may be kind or embedded"),
    ],
)
def test_a_wrong_environment_gets_a_sentence(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(LocalClusterError, match=sentence):
        providers.choose(environ, has_docker=False)


def test_a_named_cluster_needs_a_registry_for_images(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match="set CELERIAC_REGISTRY"):
        _ = providers.Named(Cache(tmp_path), NAMED).image_prefix
    named = providers.Named(Cache(tmp_path), {**NAMED, "CELERIAC_REGISTRY": "registry.example/me/"})
    assert named.image_prefix == "registry.example/me"


def test_a_named_cluster_is_told_how_to_get_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = providers.Named(Cache(tmp_path), NAMED)
    assert named.load({"registry.example/me/a:1": Path("/c/a.tar"), "registry.example/me/b:1": None}) == []
    said = capsys.readouterr().err
    assert "skopeo copy oci-archive:/c/a.tar docker://registry.example/me/a:1" in said
    assert "docker push registry.example/me/b:1" in said


def test_kind_leaves_the_persons_own_kubeconfig_alone() -> None:
    config = Path("/cache/kind/kubeconfig")
    assert kind.create(config) == [
        "kind",
        "create",
        "cluster",
        "--name=celeriac",
        "--kubeconfig=/cache/kind/kubeconfig",
        "--wait=120s",
    ]
    assert kind.delete(config) == [
        "kind",
        "delete",
        "cluster",
        "--name=celeriac",
        "--kubeconfig=/cache/kind/kubeconfig",
    ]
    assert kind.load(["localhost/a:1", "localhost/b:2"]) == [
        "kind",
        "load",
        "docker-image",
        "--name=celeriac",
        "localhost/a:1",
        "localhost/b:2",
    ]


class Recorder(kind.Kind):
    """Remembers the commands instead of running them."""

    def __init__(self, cache: Cache, clusters: str) -> None:
        super().__init__(cache)
        self.commands: list[list[str]] = []
        self.clusters = clusters

    def is_up(self) -> bool:
        return False

    def _run(self, command: list[str]) -> str:
        self.commands.append(command)
        return self.clusters if command[1:3] == ["get", "clusters"] else ""


@pytest.mark.parametrize(
    ("clusters", "verbs"),
    [
        pytest.param("", ["get", "create"], id="there is none"),
        pytest.param("celeriac\n", ["get", "delete", "create"], id="there is one that does not answer"),
        pytest.param("celeriac-2\n", ["get", "create"], id="there is somebody else's"),
    ],
)
def test_kind_starts_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clusters: str, verbs: list[str]
) -> None:
    monkeypatch.setattr("localcluster.build.ensure_programs", lambda *_: None)
    cluster = Recorder(Cache(tmp_path), clusters)
    cluster.up()
    assert [command[1] for command in cluster.commands] == verbs


def test_the_environment_puts_our_programs_first_and_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    once = providers.environment(kind.Kind(cache), cache, "/usr/bin:/bin")
    assert once["PATH"] == f"{cache.bin}:/usr/bin:/bin"
    assert once["KUBECONFIG"] == str(tmp_path / "kind" / "kubeconfig")
    assert providers.environment(kind.Kind(cache), cache, once["PATH"]) == once


class Down:
    """A provider of which nothing runs."""

    name = "embedded"

    def status(self) -> dict[str, Any]:
        return {"provider": "embedded", "up": False, "state": "down", "home": "/h"}


def test_status_of_nothing_is_an_answer_with_its_own_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.status(Down(), as_json=True) == 3  # type: ignore[arg-type]  # half a provider is enough here
    assert json.loads(capsys.readouterr().out)["state"] == "down"
    assert commands.status(Down(), as_json=False) == 3  # type: ignore[arg-type]  # as above
    assert "state       down" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["kwok", "-1"], ["kwok", "many"], [], ["start"]])
def test_wrong_use_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        commands.main(words)
    assert ended.value.code == 2
    assert "usage: localcluster" in capsys.readouterr().err


def test_help_names_every_command_and_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        commands.main(["--help"])
    said = capsys.readouterr().out
    for word in ("up", "down", "status", "env", "images", "kwok", "CELERIAC_CACHE", "CELERIAC_USE_CLUSTER"):
        assert word in said
