"""Requests to an API server while it starts, over HTTPS, without starting kubectl for each."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Api:
    """A client of one server, with the credentials of a kubeconfig that `certificates.kubeconfig` wrote."""

    host: str
    port: int
    context: ssl.SSLContext
    headers: dict[str, str]

    @classmethod
    def of(cls, kubeconfig: Path) -> Api:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        url = urllib.parse.urlsplit(cluster["server"])
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        context = ssl.create_default_context(cadata=authority)
        if "client-key-data" in user:
            with tempfile.NamedTemporaryFile() as pem:  # the ssl module reads a client's key from a file only
                pem.write(base64.b64decode(user["client-certificate-data"]))
                pem.write(base64.b64decode(user["client-key-data"]))
                pem.flush()
                context.load_cert_chain(pem.name)
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        return cls(str(url.hostname), int(url.port or 443), context, headers)

    def get(self, path: str) -> Any:
        """The answer's body (parsed, where it is JSON), or None if the status is not 200 or nothing answers."""
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=5, context=self.context)
        try:
            connection.request("GET", path, headers=self.headers)
            answer = connection.getresponse()
            body = answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            return None
        return json.loads(body) if body.startswith(("{", "[")) else body

    def items(self, path: str) -> list[Any]:
        """The items of a list; none when there is no answer."""
        answer = self.get(path)
        return list(answer["items"]) if answer else []
