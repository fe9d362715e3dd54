"""Each alert fires when it should, and not beside it: Prometheus' `promtool` evaluates the rules on made-up series."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from localcluster.paths import CHECKOUT

ALERTS = CHECKOUT / "charts/celeriac/files/alerts.yaml"
CASES = CHECKOUT / "tests/golden/chart/alerts.test.yaml"
NAMES = [rule["alert"] for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str, folder: Path) -> None:
    done = subprocess.run(
        ["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_rules(tmp_path: Path):
    promtool("check", "rules", str(ALERTS), folder=tmp_path)


def test_each_alert_fires_in_its_case_and_not_beside_it(tmp_path: Path):
    rules = yaml.safe_load(ALERTS.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]  # promtool would compare every sentence
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    (tmp_path / "cases.yaml").write_text(CASES.read_text())
    promtool("test", "rules", "cases.yaml", folder=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_case_in_which_it_fires(name: str):
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    assert any(case["alertname"] == name and case["exp_alerts"] for case in cases)
