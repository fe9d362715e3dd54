"""What is generated is up to date, and the resource keeps its promises: every field explained, everything bounded."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac_operator import labels, reasons
from celeriac_operator.generate import __main__ as generate
from celeriac_operator.generate import crd

ROOT = Path(__file__).parents[3]
SCHEMA = crd.build_schema()
KINDS = reasons.Meaningful.__subclasses__()


def fields(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from fields(child, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(node.get(key), dict):
            yield from fields(node[key], f"{path}[]")


SPEC = list(fields(SCHEMA["properties"]["spec"], "spec"))
STATUS = list(fields(SCHEMA["properties"]["status"], "status"))


def test_generated_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.main(["--check", "--root", str(ROOT)]) == 0, capsys.readouterr().out


def test_the_check_shows_the_difference_and_names_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "operator").mkdir()
    (tmp_path / "operator" / "pyproject.toml").touch()
    assert generate.main(["--root", str(tmp_path)]) == 0
    assert generate.main(["--check", "--root", str(tmp_path)]) == 0
    (tmp_path / "docs/reference/labels.md").write_text("old\n")
    assert generate.main(["--check", "--root", str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert "-old" in output.out
    assert "make generate" in output.err


def test_the_generator_wants_a_checkout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        generate.main(["--root", str(tmp_path)])
    assert "is not a checkout of Celeriac" in capsys.readouterr().err


@pytest.mark.parametrize(("path", "node"), [*SPEC, *STATUS], ids=lambda value: value if isinstance(value, str) else "")
def test_every_field_has_a_sentence(path: str, node: dict[str, Any]) -> None:
    description = node.get("description", "")
    assert re.match(r"[\w$<%`].{8,}", description), path
    assert description.rstrip()[-1] in ".:", path


def unbounded(node: dict[str, Any]) -> bool:
    if node.get("x-kubernetes-int-or-string"):
        return "maxLength" not in node
    kind = node.get("type")
    missing = {
        "string": "maxLength" not in node and "enum" not in node,
        "integer": "minimum" not in node or "maximum" not in node,
        "number": "minimum" not in node or "maximum" not in node,
        "array": "maxItems" not in node or unbounded(node["items"]),
        "object": "additionalProperties" in node and "maxProperties" not in node,
    }
    return missing.get(str(kind), False)


def test_every_field_of_the_spec_is_bounded() -> None:
    assert [path for path, node in SPEC if unbounded(node)] == []


# The operator's own decisions. Everything else that is left out leaves the application's Celery setting in force.
DEFAULTS = {
    "spec.inject",
    "spec.replicas",
    "spec.suspend",
    "spec.worker",
    "spec.worker.python",
    "spec.liveness",
    "spec.liveness.port",
    "spec.liveness.periodSeconds",
    "spec.liveness.failureThreshold",
    "spec.liveness.stalledSeconds",
    "spec.rollout",
    "spec.rollout.maxSurge",
    "spec.rollout.maxUnavailable",
    "spec.broker.retryBackoffSeconds.initial",
    "spec.broker.retryBackoffSeconds.max",
    "spec.autoscaling.minReplicas",
    "spec.autoscaling.scaleDown",
    "spec.autoscaling.scaleDown.stabilizationSeconds",
}


def test_only_what_the_operator_decides_has_a_default() -> None:
    assert {path for path, node in SPEC if "default" in node} == DEFAULTS


def test_a_new_pool_is_born_not_ready() -> None:
    (condition,) = SCHEMA["properties"]["status"]["default"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")


def test_the_description_of_the_conditions_names_every_type() -> None:
    (conditions,) = (node for path, node in STATUS if path == "status.conditions")
    assert [kind for kind in reasons.Type if not re.search(rf"\b{kind.value}\b", conditions["description"])] == []


def test_the_pages_name_every_word() -> None:
    page = (ROOT / "docs/reference/conditions.md").read_text()
    assert all(f"| `{word.value}` | {word.meaning} |" in page for kind in KINDS for word in kind)
    page = (ROOT / "docs/reference/labels.md").read_text()
    assert all(f"`{name}`" in page for name in (*labels.LABELS, *labels.ANNOTATIONS))


def test_every_reason_is_a_word_that_kubernetes_takes() -> None:
    pattern = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
    assert all(re.match(pattern, word.value) for kind in KINDS for word in kind)
