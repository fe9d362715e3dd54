"""The chart's alerts and dashboard are well-formed, and ask for metrics that there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from localcluster.paths import CHECKOUT

CHART = CHECKOUT / "charts/celeriac"
ALERTS = yaml.safe_load((CHART / "files/alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((CHART / "dashboards/celeriac.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OPERATIONS = (CHECKOUT / "docs/operations/operating.md").read_text()
# What Prometheus makes of a histogram.
PARTS = ("_bucket", "_sum", "_count")
# What Grafana puts in before it asks.
VARIABLE = re.compile(r"\$(namespace|pool)")


def documented() -> dict[str, set[str]]:
    """Every metric on the two reference pages, with its labels; tests beside the code hold the pages to the code."""
    found = {}
    for name in ("operator", "worker"):
        page = (CHECKOUT / f"docs/reference/{name}-metrics.md").read_text()
        for metric, rest in re.findall(r"^\| `(celeriac_\w+)` \|(.*)\|[^|]*\|$", page, re.MULTILINE):
            found[metric] = {*re.findall(r"`(\w+)`", rest), *(("pool",) if name == "worker" else ())}
    return found


METRICS = documented()
# Of every series: what Prometheus adds where it scrapes, and the buckets of a histogram.
EVERYWHERE = {"namespace", "job", "pod", "le"}


def selectors(expression: Any) -> Iterator[Any]:
    """Every choice of series in an expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        yield expression
    for name in ("lhs", "rhs", "expr", "vector_selector", "param"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from selectors(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from selectors(inner)


def metrics_of(text: str) -> set[str]:
    """The metrics that an expression asks for.

    Raises:
        ValueError: it is not PromQL.
    """
    names = {selector.name for selector in selectors(promql_parser.parse(VARIABLE.sub("any", text)))}
    return {name.removesuffix(part) for name in names for part in PARTS if name.endswith(part)} | {
        name for name in names if not name.endswith(PARTS)
    }


def questions() -> Iterator[Any]:
    for rule in RULES:
        yield pytest.param(rule["expr"], id=f"alert {rule['alert']}")
    for panel in PANELS:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"panel {panel['title']}, {target['refId']}")


def test_the_reading_of_expressions_finds_every_metric():
    text = 'histogram_quantile(0.9, sum by (le) (rate(a_bucket[5m]))) and (max(b{x="$pool"}) or vector(0)) unless -c'
    assert metrics_of(text) == {"a", "b", "c"}
    with pytest.raises(ValueError, match="vector"):
        metrics_of("rate(a)")


@pytest.mark.parametrize("expression", list(questions()))
def test_a_question_is_promql_and_about_metrics_that_there_are(expression: str):
    asked = metrics_of(expression)
    assert asked
    assert asked <= METRICS.keys()
    grouped = re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expression)))
    chosen = re.findall(r"(\w+)(?:=~|!~|!=|=)\"", expression)
    assert {*grouped, *chosen} <= EVERYWHERE.union(*(METRICS[name] for name in asked))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_has_what_a_person_who_is_called_needs(rule: dict[str, Any]):
    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"].keys() == {"severity"}
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"[1-9][0-9]*[smh]", rule["for"])
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert re.match(r"Celeriac[A-Z]", rule["alert"])


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_speaks_only_of_labels_that_its_expression_keeps(rule: dict[str, Any]):
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", rule["expr"]))))
    assert named <= kept


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_leads_to_its_section(rule: dict[str, Any]):
    page, _, anchor = rule["annotations"]["runbook_url"].removeprefix("https://celeriac.dev/").partition("#")
    text = (CHECKOUT / f"{page}.md").read_text()
    assert anchor in {heading.lower() for heading in re.findall(r"^### (\w+)", text, re.MULTILINE)}
    assert anchor == rule["alert"].lower()


@pytest.mark.parametrize("expression", list(questions()))
def test_pools_of_one_name_in_two_namespaces_stay_apart(expression: str):
    for grouped in re.findall(r"by \(([^)]*)\)", expression):
        names = set(re.findall(r"\w+", grouped))
        assert "pool" not in names or names & {"namespace", "pool_namespace"}


def test_the_dashboard_shows_each_pools_state_by_name_and_failures_by_task():
    asked = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert any(
        re.search(r"by \(pool_namespace, pool, type, reason\) \(celeriac_operator_pool_condition", it) for it in asked
    )
    assert any(re.search(r"by \(namespace, pool, name\) \(rate\(celeriac_worker_tasks_total", it) for it in asked)


def test_alerts_have_names_of_their_own():
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))


def test_the_operations_guide_explains_every_alert_and_no_other():
    assert re.findall(r"^### (Celeriac\w+)", OPERATIONS, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_what_the_operators_reference_page_says_to_watch_is_watched():
    page = (CHECKOUT / "docs/reference/operator-metrics.md").read_text().partition("## What to watch")[2]
    watched = {name for rule in RULES for name in metrics_of(rule["expr"])}
    assert set(re.findall(r"celeriac_operator_\w+", page)) <= watched


def test_each_alerts_figure_is_on_the_dashboard():
    shown = {name for panel in PANELS for target in panel["targets"] for name in metrics_of(target["expr"])}
    assert {name for rule in RULES for name in metrics_of(rule["expr"])} <= shown


def test_every_panel_can_be_told_from_the_others_and_has_a_place():
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert all(panel["title"] and panel["description"] for panel in PANELS)
    places = [
        (column, line)
        for panel in DASHBOARD["panels"]
        for column in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for line in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(places) == len(set(places)), "panels lie on each other"
    assert max(column for column, _ in places) < 24


def test_the_dashboard_asks_the_data_source_that_its_reader_chooses():
    sources = [panel["datasource"]["uid"] for panel in PANELS] + [
        target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]
    ]
    assert set(sources) == {"${datasource}"}
    assert DASHBOARD["templating"]["list"][0]["name"] == "datasource"
