"""`python -m demo`: show each promise on a real cluster, or remove everything again."""

from __future__ import annotations

import argparse
import functools
import json
import sys
import time
from collections.abc import Callable, Sequence

from demo import diagnosis, install, ownership, programme, report, runner
from demo.kubernetes import CommandError, HttpError, Kube, connect
from demo.shop import Shop
from demo.waiting import TimedOutError
from localcluster.errors import LocalClusterError
from localcluster.progress import say, step

NAMESPACE = "celeriac-demo"
STARTED_CLUSTER = "demo.celeriac.dev/started-cluster"  # on the namespace: `down` then stops the cluster too
EPILOGUE = """
exit codes: 0 every promise holds; 1 one does not, or could not be measured; 2 wrong use; 130 interrupted

With --json, standard output is one document: {"holds": true, "seconds": 151.2, "rows": [{"name", "title", "holds",
"seconds", "evidence", "facts", "problem"}]}. Progress goes to standard error.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="demo", description=__doc__, epilog=EPILOGUE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", metavar="up | down | list", required=True)
    up = commands.add_parser("up", help="start everything that is not there yet, and measure")
    up.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    up.add_argument(
        "--only", metavar="ROW", action="append", choices=[row.name for row in programme.ROWS],
        help="measure only this row (may be repeated); `list` names them",
    )  # fmt: skip
    commands.add_parser("down", help="remove the shop and the chart, and stop the cluster if the demo started it")
    commands.add_parser("list", help="name the rows")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code."""
    options = parse(arguments)
    if options.command == "list":
        print("\n".join(f"{row.name:<16}{row.title}" for row in programme.ROWS))
        return 0
    action: Callable[[], int] = (
        down if options.command == "down" else lambda: up(options.only or [], as_json=options.json)
    )
    try:
        return action()
    except KeyboardInterrupt:
        say(
            f"\nInterrupted. What was started goes on running in namespace {NAMESPACE}: "
            "`make demo` takes it from there, `make demo-down` removes it."
        )
        return 130
    except (install.SetUpError, LocalClusterError, CommandError, TimedOutError, HttpError) as error:
        say(f"\nThe demo could not be set up: {error}")
        return 1


def up(only: Sequence[str], *, as_json: bool) -> int:
    """Set up the cluster and the shop, measure each promise, and show the results."""
    began = time.monotonic()
    cluster = install.start_cluster()
    with connect(cluster.programs, NAMESPACE) as kube:
        if cluster.is_named:  # before anything is built or changed
            ownership.refuse_others(kube)
        images = install.build_images(install.DEMO_IMAGES)
        set_up(kube, cluster, images)
        # Standard output is for what was measured, also while it is; with --json it is one document.
        show = say if as_json else functools.partial(print, flush=True)
        shown = (lambda _: None) if as_json else (lambda outcome: show(report.row(outcome)))
        stages = [
            [[row for row in track if not only or row.name in only] for track in stage] for stage in programme.STAGES
        ]
        say("measuring; rows appear as they are done")
        outcomes = runner.run(stages, Shop(kube, show), lambda: diagnosis.describe(kube), shown)
    outcomes.sort(key=lambda outcome: programme.ROWS.index(outcome.row))
    seconds = time.monotonic() - began
    holds = all(outcome.holds for outcome in outcomes)
    if as_json:
        rows = [outcome.document() for outcome in outcomes]
        print(json.dumps({"holds": holds, "seconds": round(seconds, 1), "rows": rows}, indent=1))
    else:
        print(report.summary(outcomes, seconds))
        print(report.how_to_look_around(NAMESPACE, cluster.how_to_reach))
    for outcome in outcomes:
        if not outcome.holds:
            say(f"\n{outcome.row.name}: {outcome.problem}\n{outcome.diagnosis}")
    return 0 if holds else 1


def set_up(kube: Kube, cluster: install.Cluster, images: dict[str, str]) -> None:
    """Install the chart and the shop, and wait until all of it is ready."""
    ownership.mark(kube, kube.at(install.OPERATOR_NAMESPACE))
    install.ensure_namespace(kube, annotations=[f"{STARTED_CLUSTER}=true"] if cluster.was_started else [])
    try:
        with step("chart celeriac"):
            install.install_chart(kube.programs, images)
    except CommandError:
        say(diagnosis.describe(kube.at(install.OPERATOR_NAMESPACE)))
        raise
    try:
        with step("shop, mail, Redis, Sentry receiver, Flower"):
            install.apply(kube, images)
            install.wait_for_all(kube)
    except TimedOutError:
        say(diagnosis.describe(kube))
        raise


def remove(kube: Kube, cluster: install.Cluster) -> None:
    """Remove the shop and the chart; from a person's own cluster only what the demo made there."""
    system = kube.at(install.OPERATOR_NAMESPACE)
    places = [place for place in (kube, system) if not cluster.is_named or ownership.is_made_here(place)]
    if kube in places:
        install.remove_namespace(kube)
    if system in places:
        install.uninstall(kube)
    if not places:
        say("this cluster has nothing that the demo made")


def down() -> int:
    """Remove what `up` made; a cluster that was there before stays."""
    cluster = install.find_cluster()
    if cluster is None:
        say("no cluster is running: there is nothing to remove")
        return 0
    with connect(cluster.programs, NAMESPACE) as kube:
        stop_too = STARTED_CLUSTER in install.annotations_of(kube)
        if not stop_too:
            with step("removing the shop and the chart"):
                remove(kube, cluster)
    if stop_too:
        install.local_cluster("down")
    else:
        stop = "" if cluster.is_named else ": `make cluster-down` stops it"
        say(f"the cluster was there before the demo and stays{stop}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
