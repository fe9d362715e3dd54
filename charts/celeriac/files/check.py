"""Does the operator work? What `helm test` runs, in a pod of the operator's image, with the standard library alone.

It makes a pool without workers, waits until the operator has written its status, and deletes it. That takes every part:
the definition is served, the operator watches this namespace, may write what a pool is made of, and does. No worker is
started and no broker needed.

usage: check.py NAMESPACE NAME SECONDS
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
POLL_SECONDS = 0.5
REQUEST_SECONDS = 10


def request(method, path, body=None):
    """Ask the API server; returns the status of its answer and the document in it."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    asked = urllib.request.Request(
        f"https://{host}:{port}{path}",
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text()}", "Content-Type": "application/json"},
    )
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    try:
        with urllib.request.urlopen(asked, context=trust, timeout=REQUEST_SECONDS) as answer:  # noqa: S310 - always https
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def manifest(name):
    """A pool that starts nothing."""
    return {
        "apiVersion": "celeriac.dev/v1alpha1",
        "kind": "CeleryWorkerPool",
        "metadata": {"name": name},
        "spec": {"app": "nothing", "image": "none", "replicas": 0},
    }


def seen(pool):
    """What the operator has said of this generation of the pool: the reason of Ready, or nothing yet."""
    status, generation = pool.get("status", {}), pool["metadata"]["generation"]
    if status.get("observedGeneration") != generation:
        return ""
    return next((each["reason"] for each in status.get("conditions", []) if each["type"] == "Ready"), "")


def check(namespace, name, seconds, ask=request, clock=time.monotonic, sleep=time.sleep):
    """Run the check; returns what is wrong, or an empty text. `ask` is `request`, the others count and wait seconds."""
    pools = f"/apis/celeriac.dev/v1alpha1/namespaces/{namespace}/celeryworkerpools"
    deadline = clock() + seconds
    ask("DELETE", f"{pools}/{name}")  # of a check that was cut off
    while (answer := ask("POST", pools, manifest(name)))[0] == 409 and clock() < deadline:
        sleep(POLL_SECONDS)
    if answer[0] == 404:
        return "the cluster does not serve CeleryWorkerPool: install the definition (crds.enabled, or crds/)"
    if answer[0] != 201:
        return f"no pool could be made in {namespace}: {answer[1].get('message', answer)}"
    try:
        while True:
            code, pool = ask("GET", f"{pools}/{name}")
            reason = seen(pool) if code == 200 else ""
            if reason == "NoWorkers":
                return ""
            if clock() >= deadline:
                said = reason or "nothing: does it run, does it watch this namespace? See its log"
                return f"after {seconds} s the operator says of pool {namespace}/{name}: {said}"
            sleep(POLL_SECONDS)
    finally:
        ask("DELETE", f"{pools}/{name}")


if __name__ == "__main__":
    wrong = check(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    print(wrong or "the operator took up a pool, and said so in its status")
    sys.exit(1 if wrong else 0)
