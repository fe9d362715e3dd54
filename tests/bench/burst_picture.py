"""Draws the demo's burst and the simulated burst of the same load (`make burst-picture`).

The simulator gets from the real run what it cannot know: the seconds until the first worker took a task.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from celeriac_operator.autoscaling.policy import BacklogPerReplica, Spec
from celeriac_operator.autoscaling.simulation import picture, rivals, run
from celeriac_operator.autoscaling.simulation.arrivals import Task
from demo.scenarios import burst

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "operations" / "autoscaling-demo.svg"
# As in examples/shop.yaml and the scenario.
SPEC = Spec(min_replicas=0, max_replicas=5, target=BacklogPerReplica(messages=10), slots=2, stabilization_seconds=5)
SERVICE_SECONDS = 1.0


def main() -> None:
    command = [sys.executable, "-m", "demo", "up", "--only", "burst", "--json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    (row,) = json.loads(done.stdout)["rows"]
    seen = row["facts"]["samples"]
    names = ("at", "replicas", "backlog", "oldest_wait_seconds")
    real = tuple(run.Sample(**{name: one[name] for name in names}) for one in seen)
    asked = next(one["at"] for one in seen if one["replicas"])
    samples = tuple(burst.Sample(**one) for one in seen)
    taken = burst.Measured(row["facts"]["tasks"], row["facts"]["done"], samples).taken
    # They are sent one after the other: until the most of them waits.
    sending = max(seen, key=lambda one: one["backlog"])["at"]
    count = row["facts"]["tasks"]
    tasks = [Task(at=sending * number / count, service_seconds=SERVICE_SECONDS) for number in range(count)]
    world = run.World(slots=SPEC.slots, start_seconds=taken - asked)
    seconds = real[-1].at
    simulated = run.run(tasks, rivals.Celeriac(SPEC), world, seconds=seconds, sample_seconds=0.25)
    measured = run.Run(
        arrived=count,
        done=row["facts"]["done"],
        waiting=real[-1].backlog,
        running=0,
        waits=(),
        samples=real,
        replica_hours=0.0,
    )
    title = (
        f"Measured and simulated: {count} tasks of a second on an empty pool; a worker starts in {taken - asked:.1f} s"
    )
    runs = {"measured": measured, "simulated": simulated}
    PICTURE.write_text(picture.draw(title, runs, seconds=seconds, max_replicas=SPEC.max_replicas))
    print(row["evidence"])


if __name__ == "__main__":
    main()
