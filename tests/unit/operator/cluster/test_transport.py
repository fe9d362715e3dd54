from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from celeriac_operator.cluster import transport

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
clusters: [{{name: here, cluster: {{server: "https://api.example:6443"{more}}}}}]
users: [{{name: me, user: {{token: secret}}}}]
"""


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def proxy_of_client(folder: Path, monkeypatch: pytest.MonkeyPatch, *, more: str = "") -> str | None:
    path = folder / "kubeconfig"
    path.write_text(KUBECONFIG.format(more=more))
    monkeypatch.setattr(transport.config.kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(path))

    async def connect() -> str | None:
        api = await transport.connect("test")
        found: str | None = api.configuration.proxy
        await api.close()  # type: ignore[no-untyped-call]  # the client has no types there
        return found

    return asyncio.run(connect())


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        pytest.param({}, None, id="none is named"),
        pytest.param({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128", id="it is named"),
        pytest.param({"https_proxy": "http://proxy:3128"}, "http://proxy:3128", id="it is named in small letters"),
        pytest.param({"HTTP_PROXY": "http://proxy:3128"}, None, id="it is for other URLs"),
        pytest.param(
            {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": ".example"}, None, id="the server's domain is excepted"
        ),
    ],
)
def test_requests_go_through_the_proxy_of_the_environment(
    environment: dict[str, str], expected: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    assert proxy_of_client(tmp_path, monkeypatch) == expected


def test_the_kubeconfigs_own_proxy_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")

    assert proxy_of_client(tmp_path, monkeypatch, more=', proxy-url: "http://own:3128"') == "http://own:3128"
