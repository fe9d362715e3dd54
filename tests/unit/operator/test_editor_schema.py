"""The JSON schema for editors: every example fits it, and what an editor can know to be wrong is refused."""

from __future__ import annotations

import copy
import json
import logging
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from celeriac_operator.generate import editor
from celeriac_operator.resource import worker

ROOT = Path(__file__).parents[3]
SCHEMA = editor.build()
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
RIGHT: dict[str, Any] = {
    "apiVersion": "celeriac.dev/v1alpha1",
    "kind": "CeleryWorkerPool",
    "metadata": {"name": "emails", "namespace": "my-app"},
    "spec": {"app": "shop.celery:app", "image": "shop:1", "queues": ["emails"], "broker": {"url": "redis://redis/0"}},
}


def pools(path: Path) -> list[Any]:
    """The pools that a file of manifests, or a page with examples in YAML, contains."""
    text = path.read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if path.suffix == ".md" else [text]
    found = [manifest for block in blocks for manifest in yaml.safe_load_all(block)]
    return [one for one in found if isinstance(one, dict) and one.get("kind") == "CeleryWorkerPool"]


FILES = [
    path
    for pattern in ("README.md", "docs/**/*.md", "examples/*.yaml", "tests/golden/operator/*.pool.yaml")
    for path in sorted(ROOT.glob(pattern))
    if pools(path)
]


def test_the_schema_itself_is_draft_7() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_example_fits(path: Path) -> None:
    for manifest in pools(path):
        assert [error.message for error in VALIDATOR.iter_errors(manifest)] == []


WRONG: dict[str, dict[str, Any]] = {
    "no app": {"app": None},
    "a misspelt field": {"replica": 2},
    "a misspelt field of a section": {"timeLimits": {"soft": 3}},
    "a number as text": {"replicas": "2"},
    "a negative number": {"replicas": -1},
    "queues as text": {"queues": "emails"},
    "a queue twice": {"queues": ["a", "a"]},
    "an unknown word": {"worker": {"pool": "thread"}},
    "a duration with a unit": {"drain": {"timeoutSeconds": "30s"}},
    "a broker as text": {"broker": "redis://redis/0"},
    "two sources": {"broker": {"url": "redis://r", "urlFrom": {"secretKeyRef": {"name": "r", "key": "u"}}}},
    "a password": {"broker": {"url": "redis://:pw@r"}},
    "a broker of another scheme": {"broker": {"url": "http://r"}},
    "a Secret without a key": {"broker": {"urlFrom": {"secretKeyRef": {"name": "r"}}}},
    "a variable that is a number": {"env": [{"name": "A", "value": 3}]},
    "a reserved variable": {"env": [{"name": "CELERIAC_CONFIG", "value": "x"}]},
    "no target": {"autoscaling": {"maxReplicas": 3, "target": {}}},
    "two targets": {"autoscaling": {"maxReplicas": 3, "target": {"backlogPerReplica": 1, "latencySeconds": 5}}},
    "an argument that a field sets": {"worker": {"extraArgs": ["--concurrency=3"]}},
    "a misspelt field of a pod": {"template": {"spec": {"nodeSelectr": {"a": "b"}}}},
    "a container without a name": {"template": {"spec": {"containers": [{"image": "x"}]}}},
    "a field of another type": {"template": {"spec": {"tolerations": {"a": "b"}}}},
    "an app that is a path": {"app": "shop/celery.py"},
    "an unknown field in a log format": {"logging": {"taskFormat": "%(task)s"}},
    "a DSN that is none": {"sentry": {"dsn": "xxx"}},
    "both limits of a budget": {"disruption": {"maxUnavailable": 1, "minAvailable": 1}},
    "a command as text": {"worker": {"python": "python3"}},
    "a selector": {"selector": {"matchLabels": {"a": "b"}}},
    "a switch as text": {"suspend": "true"},
}


@pytest.mark.parametrize("spec", [pytest.param(spec, id=name) for name, spec in WRONG.items()])
def test_what_is_wrong_is_refused(spec: dict[str, Any]) -> None:
    manifest = copy.deepcopy(RIGHT)
    merged = {**manifest["spec"], **spec}
    manifest["spec"] = {key: value for key, value in merged.items() if value is not None}
    assert not VALIDATOR.is_valid(manifest)
    assert VALIDATOR.is_valid(RIGHT)


@pytest.mark.parametrize(
    "change",
    [
        {"apiVersion": "celeriac.dev/v1"},
        {"kind": "CeleryWorker"},
        {"metadata": {"name": "Emails"}},
        {"metadata": {"name": "x" * 47}},
        {"sepc": {}},
    ],
    ids=str,
)
def test_a_wrong_head_is_refused(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**RIGHT, **change})


def test_every_regular_expression_is_one_that_editors_know() -> None:
    text = json.dumps(SCHEMA)
    # JavaScript has no flags inside an expression, which Go has.
    assert not re.search(r"\(\?[a-z]+:", text)


# Fields and pieces of formats, right and wrong, joined in any order.
PIECES = st.sampled_from(
    [
        *(f"%({name})s" for name in worker.RECORD_FIELDS.split("|")),
        *("%(message)-20.3s", "%(process)05d", "%(created).2f", "%(message)%", "%(lineno)ld", "%%", "%", "%s"),
        *("%(task)s", "%(message)", "%(message)y", "(", ")", "é", "\n", " "),
    ]
)
ALONE = re.compile(r"%[^(%]|%$")
"""A conversion without a name: Python would show the whole record as a dictionary."""


@given(st.lists(PIECES, max_size=4).map("".join))
def test_a_format_is_refused_only_if_python_cannot_use_it(text: str) -> None:
    found = re.search(r"matches\('(.*)'\)$", worker.IS_FORMAT.cel, re.DOTALL)
    assert found
    if re.fullmatch(found[1], text) or ALONE.search(text.replace("%%", "")):
        return
    record = logging.LogRecord("celery", logging.INFO, "x.py", 1, "text", (), None)
    fields = {**vars(record), "message": "text", "asctime": "now", "task_name": "-", "task_id": "-"}
    with pytest.raises((KeyError, TypeError, ValueError)):
        text % fields
