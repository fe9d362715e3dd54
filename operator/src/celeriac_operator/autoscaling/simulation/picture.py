"""How is a simulation drawn? Three graphs over the same time, as SVG. The same runs give the same text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape

from celeriac_operator.autoscaling.simulation.run import Run, Sample

WIDTH, PANEL, LEFT, RIGHT, TOP, GAP = 860, 116, 60, 20, 56, 54
MOST_TICKS = 7
"""Most marks on the axis of time. The other axis has up to four above zero."""

# People who cannot tell some colours apart can tell these apart, on a light and on a dark ground.
STYLE = """\
<style>
text { fill: #333 } .ground { fill: #fff } .axis { stroke: #555 } .grid { stroke: #ddd }
.run0 { stroke: #0072b2 } .run1 { stroke: #d55e00 } .run2 { stroke: #8a8a8a }
.limit { stroke: #555; stroke-dasharray: 4 4 }
@media (prefers-color-scheme: dark) {
text { fill: #ddd } .ground { fill: #14171c } .axis { stroke: #aaa } .grid { stroke: #333a44 }
.run0 { stroke: #56b4e9 } .run1 { stroke: #e69f00 } .run2 { stroke: #8f98a3 } .limit { stroke: #aaa }
}
</style>"""
TIME_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400)
"""Seconds between two marks: all are read as round times."""

Value = Callable[[Sample], float]
PANELS: Sequence[tuple[str, Value]] = (
    ("replicas", lambda sample: sample.replicas),
    ("backlog, messages", lambda sample: sample.backlog),
    ("longest wait, seconds", lambda sample: sample.oldest_wait_seconds),
)


def draw(title: str, runs: Mapping[str, Run], *, seconds: float, max_replicas: int | None = None) -> str:
    """Draw at most three runs in each panel.

    Args:
        title: what stands above them.
        runs: the runs by name, the most important first: it is drawn above the others.
        seconds: the time that the panels show.
        max_replicas: the pool's limit, drawn as a line if a run comes close to it.
    """
    height = TOP + len(PANELS) * (PANEL + GAP) - 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        STYLE,
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for place, name in enumerate(runs):
        x = LEFT + place * 130
        lines.append(f'<path class="run{place}" d="M{x} 32H{x + 16}" stroke-width="4"/>')
        lines.append(f'<text x="{x + 22}" y="36">{escape(name)}</text>')
    for place, (label, value) in enumerate(PANELS):
        limit = max_replicas if label == "replicas" else None
        panel = Panel(top=TOP + place * (PANEL + GAP), seconds=seconds, most=_most(value, runs, limit))
        lines.extend(panel.axes(label))
        if limit is not None and limit <= panel.highest:
            lines.append(f'<path class="limit" d="M{LEFT} {panel.y(limit):.1f}H{WIDTH - RIGHT}"/>')
        # The first one last, so that nothing covers it.
        for number, run in reversed(list(enumerate(runs.values()))):
            path = panel.steps(run, value) if label == "replicas" else panel.line(run, value)
            lines.append(f'<path class="run{number}" d="{path}" fill="none" stroke-width="{1.5 if number else 2}"/>')
    return "\n".join([*lines, "</svg>", ""])


def _most(value: Value, runs: Mapping[str, Run], limit: int | None) -> float:
    """The highest value, and the limit if it is near."""
    most = max((value(sample) for run in runs.values() for sample in run.samples), default=0.0)
    return max(most, limit) if limit is not None and most * 2 >= limit else most


class Panel:
    """One graph: where its values are on the picture."""

    def __init__(self, *, top: float, seconds: float, most: float) -> None:
        self.top, self.base = top + 14, top + 14 + PANEL - 8
        self.seconds = seconds
        self.step = value_step(most)
        self.highest = self.step * max(1, math.ceil(most / self.step - 1e-9))

    def x(self, at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / self.seconds

    def y(self, value: float) -> float:
        return self.base - (self.base - self.top) * value / self.highest

    def axes(self, label: str) -> Iterator[str]:
        """The label, a grid, and the numbers of both axes."""
        yield f'<text x="{LEFT}" y="{self.top - 6}" font-weight="bold">{escape(label)}</text>'
        for number in range(round(self.highest / self.step) + 1):
            y = self.y(number * self.step)
            kind = "grid" if number else "axis"
            yield f'<path class="{kind}" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'
            yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number * self.step:g}</text>'
        for at in times(self.seconds):
            x = self.x(at)
            kind = "grid" if at else "axis"
            yield f'<path class="{kind}" d="M{x:.1f} {self.top}V{self.base}"/>'
            yield f'<text x="{x:.1f}" y="{self.base + 16}" text-anchor="middle">{clock(at)}</text>'

    def steps(self, run: Run, value: Value) -> str:
        """A value that holds until the next one: numbers of workers are whole."""
        path, before = "", None
        for sample in run.samples:
            if value(sample) != before:
                x, y = self.x(sample.at), self.y(value(sample))
                path += f"H{x:.1f}V{y:.1f}" if path else f"M{x:.1f} {y:.1f}"
                before = value(sample)
        return path + (f"H{self.x(run.samples[-1].at):.1f}" if run.samples else "")

    def line(self, run: Run, value: Value) -> str:
        """Straight lines between values; points between two equal ones are left out."""
        kept = [
            sample
            for number, sample in enumerate(run.samples)
            if not 0 < number < len(run.samples) - 1
            or not value(run.samples[number - 1]) == value(sample) == value(run.samples[number + 1])
        ]
        return "M" + "L".join(f"{self.x(sample.at):.1f} {self.y(value(sample)):.1f}" for sample in kept) if kept else ""


def value_step(most: float) -> float:
    """A round step of which at most four or five reach `most`: 1, 2 or 5 times a power of ten, and at least 1."""
    if most <= 4:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most / 4))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor * 4 >= most)


def times(seconds: float) -> list[int]:
    """The round times to mark, from 0."""
    step = next((step for step in TIME_STEPS if seconds / step <= MOST_TICKS), TIME_STEPS[-1])
    return list(range(0, math.floor(seconds) + 1, step))


def clock(seconds: int) -> str:
    """A time as people write it: 2:00, or 1:30:00 from an hour on."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
