"""How is it shown? One line for each promise, with what was measured below its title, as wide as the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap

from demo.runner import Outcome


def paint(text: str, colour: int) -> str:
    """Colour a text where it is read on a terminal."""
    return f"\x1b[{colour}m{text}\x1b[0m" if sys.stdout.isatty() else text


def row(outcome: Outcome) -> str:
    """Return a row: whether it holds, its title, how long it took, and the evidence."""
    mark = paint("holds", 32) if outcome.holds else paint("FAILS", 31)
    width = max(60, min(shutil.get_terminal_size((120, 24)).columns, 160))
    lines = [f"{mark}  {outcome.row.title:<40}{outcome.seconds:>7.1f} s"]
    if outcome.evidence:
        for line in outcome.evidence.sentence().splitlines():
            # A quoted log line stays as it is: it is there to be compared.
            lines += [line] if line.startswith("[") else textwrap.wrap(line, width - 7)
    if outcome.problem:
        lines += outcome.problem.splitlines()
    return "\n".join([lines[0], *(f"       {line}" for line in lines[1:])])


def summary(outcomes: list[Outcome], seconds: float) -> str:
    """Return the last line: how many hold, and which do not."""
    failed = [outcome.row.name for outcome in outcomes if not outcome.holds]
    if failed:
        return paint(f"{len(failed)} of {len(outcomes)} do not hold: {', '.join(failed)}", 31)
    return paint(f"All {len(outcomes)} hold, measured in {seconds:.0f} s.", 32)


def how_to_look_around(namespace: str, how_to_reach: str) -> str:
    """Return the commands that a curious person types next."""
    lines = [
        how_to_reach,
        f"kubectl -n {namespace} get cwp -o wide",
        f"kubectl -n {namespace} describe cwp/shop-tasks",
        f"kubectl -n {namespace} logs -l celeriac.dev/pool=shop-tasks -c worker --tail=-1 --prefix -f",
        f"kubectl -n {namespace} port-forward svc/shop 8000:80       # the shop:   http://localhost:8000",
        f"kubectl -n {namespace} port-forward svc/flower 5555        # Flower:     http://localhost:5555",
        f"kubectl -n {namespace} port-forward svc/mail 8025          # the e-mail: http://localhost:8025/messages",
        "make demo-down                                             # remove it all",
    ]
    return "\nLook around:\n" + "\n".join(f"  {line}" for line in lines)
