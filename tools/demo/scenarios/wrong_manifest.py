"""A wrong manifest is refused by the API server, in a sentence that says what to change."""

from __future__ import annotations

from dataclasses import dataclass

from demo.kubernetes import CommandError, HttpError
from demo.shop import Shop

NAME = "wrong"
MANIFEST = {
    "apiVersion": "celeriac.dev/v1alpha1",
    "kind": "CeleryWorkerPool",
    "metadata": {"name": NAME},
    "spec": {
        "app": "shop.celery:app",
        "image": "localhost/celeriac-demo-shop:dev",
        "timeLimits": {"softSeconds": 300, "hardSeconds": 270},
    },
}


@dataclass(frozen=True)
class Measured:
    """What the API server replied, and whether it stored the object anyway."""

    said: str
    exists: bool

    def sentence(self) -> str:
        return self.said

    def shortfall(self) -> str | None:
        if self.exists or not self.said:
            return "the manifest was accepted"
        if "softSeconds" not in self.said:
            return "the sentence does not name the field"
        return None


def run(shop: Shop) -> Measured:
    """Apply a manifest whose soft limit is above its hard one."""
    said = ""
    try:
        shop.kube.apply(MANIFEST)
    except CommandError as error:
        said = error.said
    try:
        shop.kube.pool(NAME)
    except HttpError as error:
        if error.status != 404:
            raise
        return Measured(said, exists=False)
    shop.kube.kubectl("delete", f"cwp/{NAME}")
    return Measured(said, exists=True)
