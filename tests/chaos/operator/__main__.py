"""`make chaos-operator`: the operator's fault campaign."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.operator import faults
from tests.chaos.operator.campaign import Account, Campaign, UnsteadyError, open_campaign
from tests.chaos.operator.faults import Plan
from tests.chaos.operator.mutants import MUTANTS

from localcluster.controlplane import ControlPlane

PLANS = 1300


@dataclass(frozen=True)
class Finding:
    """Which plan found a deliberate bug; after how many plans; as which failure."""

    mutant: str
    plans: int
    plan: str = ""
    failure: str = ""

    def __str__(self) -> str:
        return f"{self.mutant} after {self.plans} plans, by: {self.plan}"


class Screen:
    """Progress on standard error: one line that changes on a terminal, else a line now and then."""

    def __init__(self) -> None:
        self._last = 0.0

    def __call__(self, text: str) -> None:
        is_important = text.startswith(("FAILED", "FOUND"))
        if not is_important and time.monotonic() - self._last < (0.2 if sys.stderr.isatty() else 5.0):
            return
        self._last = time.monotonic()
        if sys.stderr.isatty() and not is_important:
            print(f"\r\x1b[K{text[:150]}", end="", file=sys.stderr, flush=True)
        else:
            print(f"\r\x1b[K{text}" if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


async def run_campaign(control_plane: ControlPlane, flags: argparse.Namespace, screen: Screen) -> Account:
    """The campaign against the operator as it is."""
    account = Account(seed=flags.seed)
    async with open_campaign(control_plane, slots=flags.slots) as campaign:
        plans = await campaign.learn(screen, only=flags.change)
        plans = [plan for plan in plans if all(word in str(plan) for word in flags.only)]
        chosen = faults.choose(plans, flags.plans or len(plans), flags.seed)
        screen(f"{len(chosen)} of {len(plans)} plans, seed {flags.seed}")
        await campaign.run(chosen, account, screen)
    return account


async def run_mutants(control_plane: ControlPlane, flags: argparse.Namespace, screen: Screen) -> list[Finding]:
    """The campaign against each deliberate bug, until a plan fails. The operator as it is shows what is right."""
    findings = []
    async with open_campaign(control_plane, slots=flags.slots) as campaign:
        plans = await campaign.learn(screen, only=flags.change)
        plans = [plan for plan in plans if all(word in str(plan) for word in flags.only)]
        chosen = faults.choose(plans, flags.plans or len(plans), flags.seed)
        for name in flags.mutant or MUTANTS:
            finding = await find(campaign, name, chosen, screen)
            findings.append(finding)
            screen(f"FOUND {finding}" if finding.plan else f"FAILED to find {name} in {finding.plans} plans")
    return findings


async def find(campaign: Campaign, mutant: str, plans: Sequence[Plan], screen: Screen) -> Finding:
    """Run plans against a deliberate bug until one fails that the operator as it is passes, and that fails again."""
    tried: set[Plan] = set()
    while len(tried) < len(plans):
        account = Account(seed=0)
        await campaign.use(mutant)
        await campaign.run([plan for plan in plans if plan not in tried], account, screen, stop_at=1)
        tried.update(each.plan for each in account.outcomes)
        if not account.failures():
            break
        for failed in account.failures():
            again = await campaign.run_one(failed.plan)
            await campaign.use("")
            without = await campaign.run_one(failed.plan)
            await campaign.use(mutant)
            if again.failure and not without.failure:
                return Finding(mutant, len(tried), str(failed.plan), again.failure)
    return Finding(mutant, len(tried))


def print_findings(findings: Sequence[Finding], seed: int, *, as_json: bool) -> None:
    print(f"\nseed {seed}: {sum(bool(each.plan) for each in findings)} of {len(findings)} deliberate bugs found\n")
    print("| bug | what it does wrong | found by | after plans | as |")
    print("|---|---|---|---|---|")
    for each in findings:
        failure = each.failure.splitlines()[0][:120] if each.failure else ""
        print(f"| {each.mutant} | {MUTANTS[each.mutant].meaning} | {each.plan or '-'} | {each.plans} | {failure} |")
    if as_json:
        found = {each.mutant: {"plans": each.plans, "found_by": each.plan} for each in findings}
        print(json.dumps({"name": "chaos-operator-mutants", "seed": seed, "mutants": found}))


def print_report(account: Account, *, as_json: bool) -> None:
    found = account.as_json()
    print()
    print(f"seed {found['seed']}: {found['plans']} plans over {found['changes']} changes in {found['seconds']} s")
    print(f"{found['distinct_plans']} distinct plans whose faults happened, {len(found['not_reached'])} whose did not")
    for kind, count in found["by_fault"].items():
        print(f"  {count:5} {kind}")
    print(f"{len(found['failed'])} failed")
    for each in found["failed"]:
        print(f"  {each['plan']}\n    {each['failure']}")
    if as_json:
        print(json.dumps(found))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make chaos-operator", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="order of the plans (random)")  # noqa: S311 -- not a secret
    parser.add_argument("--plans", type=int, default=PLANS, help=f"how many; 0: all there are, thousands ({PLANS})")
    parser.add_argument("--slots", type=int, default=12, help="plans at once (12)")
    parser.add_argument("--change", action="append", default=[], help="changes whose name contains this text")
    parser.add_argument("--only", action="append", default=[], help="plans whose description contains this text")
    parser.add_argument("--mutants", action="store_true", help="show that deliberate bugs are found")
    parser.add_argument("--mutant", action="append", choices=sorted(MUTANTS), help="this one only")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object in the last line, too")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    flags = build_parser().parse_args(arguments)
    screen = Screen()
    try:
        with ControlPlane(controllers=True) as control_plane:
            if flags.mutants or flags.mutant:
                findings = asyncio.run(run_mutants(control_plane, flags, screen))
                print_findings(findings, flags.seed, as_json=flags.json)
                return 0 if all(each.plan for each in findings) else 1
            account = asyncio.run(run_campaign(control_plane, flags, screen))
    except UnsteadyError as error:
        print(f"\n{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nended; everything is cleaned up", file=sys.stderr)
        return 130
    print_report(account, as_json=flags.json)
    return 1 if account.failures() or not account.reached() else 0


if __name__ == "__main__":
    sys.exit(main())
