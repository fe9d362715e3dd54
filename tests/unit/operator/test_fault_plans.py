"""The fault campaign's own decisions: which plans there are, and what its page says of them."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

from tests.chaos.operator import faults
from tests.chaos.operator.__main__ import build_parser
from tests.chaos.operator.changes import BUDGET_CHANGES, CHANGES
from tests.chaos.operator.faults import AtCall, Call, How, Plan, Seen, Watch
from tests.chaos.operator.mutants import MUTANTS
from tests.chaos.operator.proxy import Injector, Request, read_request
from tests.chaos.operator.state import first_difference

PAGE = Path(__file__).parents[3] / "docs" / "project" / "operator-campaign.md"
READ = Call(verb="GET", resource="deployments")
WRITE = Call(verb="PATCH", resource="deployments")
SEEN = Seen(change="c", is_down=False, calls=(READ, WRITE), can_undo=True)


def at(plans: list[Plan], call: Call) -> set[How]:
    return {
        fault.how
        for plan in plans
        if len(plan.faults) == 1
        for fault in plan.faults
        if isinstance(fault, AtCall) and fault.call == call
    }


def test_every_call_is_a_place_to_be_killed_at_before_and_after() -> None:
    plans = faults.enumerate_plans([SEEN], ["pods"])
    for call in (READ, WRITE):
        assert {How.KILL_BEFORE, How.KILL_AFTER} <= at(plans, call)


def test_a_write_meets_every_fault_and_a_read_only_what_a_read_can_meet() -> None:
    plans = faults.enumerate_plans([SEEN], ["pods"])
    assert at(plans, WRITE) == set(How)
    assert at(plans, READ) == set(How) - {How.CONFLICT, How.CONFLICT_TWICE, How.HUNG_ANSWER, How.DENIED}


def test_every_watch_meets_every_fault_of_watches() -> None:
    plans = faults.enumerate_plans([SEEN], ["pods", "secrets"])
    met = {(fault.how, fault.resource) for plan in plans for fault in plan.faults if isinstance(fault, faults.AtWatch)}
    assert met == {(how, resource) for how in Watch for resource in ("pods", "secrets", faults.ALL_WATCHES)}


def test_plans_are_distinct_and_a_seed_gives_the_same_ones_again() -> None:
    plans = faults.enumerate_plans([SEEN], ["pods"])
    assert len(set(plans)) == len(plans)
    assert faults.choose(plans, 20, 7) == faults.choose(plans, 20, 7)
    assert faults.choose(plans, 20, 7) != faults.choose(plans, 20, 8)


def test_a_part_of_the_plans_has_many_faults_and_many_changes_early() -> None:
    runs = [replace(SEEN, change=f"c{number}") for number in range(40)]
    plans = faults.enumerate_plans(runs, ["pods", "secrets"])
    some = faults.choose(plans, 2 * len(runs), 1)
    assert len({plan.change for plan in some}) > len(runs) * 0.8
    assert len(faults.tally(some)) > len(faults.tally(plans)) * 0.8


def test_a_fault_happens_at_its_call_once_and_the_second_one_after_it() -> None:
    killed: list[str] = []
    injector = Injector(kill=lambda: killed.append("killed"), take_back=lambda: None)  # type: ignore[arg-type,return-value]
    second = AtCall(how=How.FAILED, call=faults.ANY_WRITE)
    injector.arm([AtCall(how=How.KILL_AFTER, call=Call(verb="PATCH", resource="deployments", nth=2)), second])
    read = Request(verb="GET", resource="deployments", name="a", is_watch=False)
    write = Request(verb="PATCH", resource="deployments", name="a", is_watch=False)
    assert [injector.meets(each)[1] for each in (read, write, read, write, read, write, write)] == [
        None,
        None,
        None,
        How.KILL_AFTER,
        None,
        How.FAILED,
        None,
    ]


def test_requests_are_told_apart_by_verb_and_resource() -> None:
    found = read_request("PATCH", "/apis/celeriac.dev/v1alpha1/namespaces/a/celeryworkerpools/b/status", is_watch=False)
    assert (found.verb, found.resource, found.name) == ("PATCH", "celeryworkerpools/status", "b")
    found = read_request("GET", "/api/v1/namespaces/a/secrets", is_watch=False)
    assert (found.verb, found.resource, found.name) == ("LIST", "secrets", "")
    assert read_request("GET", "/apis/apps/v1", is_watch=False).resource == "discovery"


def test_the_first_difference_of_two_states_is_named_by_its_path() -> None:
    assert first_difference({"a": [{"b": 1}]}, {"a": [{"b": 2}]}) == "a[0].b is 2, not 1"
    assert not first_difference({"a": [{"b": 1}]}, {"a": [{"b": 1}]})


def test_the_names_of_changes_are_unique() -> None:
    names = [change.name for change in (*CHANGES, *BUDGET_CHANGES)]
    assert len(set(names)) == len(names)


def test_the_page_names_every_deliberate_bug_and_its_commands_are_understood() -> None:
    text = PAGE.read_text()
    assert set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)) == set(MUTANTS)
    commands = re.findall(r"^make chaos-operator(?: ARGS=\"(.*)\")?$", text, re.MULTILINE)
    assert commands
    for arguments in commands:
        build_parser().parse_args(shlex.split(arguments))
