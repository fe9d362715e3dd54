"""How is a simulation drawn? Three graphs over the same time, as SVG. The same runs give the same text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape

from celeriac_operator.autoscaling.simulation.run import Run, Sample

WIDTH, PANEL, LEFT, TOP, GAP = 860, 130, 60, 56, 40
COLOURS = ("#0072b2", "#d55e00", "#8a8a8a")  # colour-blind people can tell them apart
PANELS: Sequence[tuple[str, Callable[[Sample], float]]] = (
    ("replicas", lambda sample: sample.replicas),
    ("backlog, messages", lambda sample: sample.backlog),
    ("longest wait, seconds", lambda sample: sample.oldest_wait_seconds),
)


def draw(title: str, runs: Mapping[str, Run], *, seconds: float) -> str:
    """Draw every run in each panel. `title` stands above them."""
    height = TOP + len(PANELS) * (PANEL + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        'font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for place, (name, colour) in enumerate(zip(runs, COLOURS, strict=False)):
        x = LEFT + place * 130
        lines.append(f'<rect x="{x}" y="30" width="16" height="4" fill="{colour}"/>')
        lines.append(f'<text x="{x + 22}" y="36">{escape(name)}</text>')
    for place, (label, value) in enumerate(PANELS):
        lines.extend(_panel(label, value, runs, top=TOP + place * (PANEL + GAP), seconds=seconds))
    return "\n".join([*lines, "</svg>", ""])


def _panel(
    label: str, value: Callable[[Sample], float], runs: Mapping[str, Run], *, top: int, seconds: float
) -> list[str]:
    most = max((value(sample) for run in runs.values() for sample in run.samples), default=0.0) or 1.0
    base, wide = top + PANEL, WIDTH - LEFT - 20
    lines = [
        f'<text x="{LEFT}" y="{top + 8}" fill="#444">{escape(label)}</text>',
        f'<path d="M{LEFT} {top + 14}V{base}H{LEFT + wide}" fill="none" stroke="#444"/>',
        f'<text x="{LEFT - 6}" y="{top + 22}" text-anchor="end">{most:.0f}</text>',
        f'<text x="{LEFT - 6}" y="{base}" text-anchor="end">0</text>',
    ]
    for quarter in range(5):
        at = LEFT + wide * quarter // 4
        lines.append(f'<text x="{at}" y="{base + 14}" text-anchor="middle">{_clock(seconds * quarter / 4)}</text>')
    for run, colour in zip(runs.values(), COLOURS, strict=False):
        points = " ".join(
            f"{LEFT + wide * sample.at / seconds:.1f},{base - (PANEL - 20) * value(sample) / most:.1f}"
            for sample in run.samples
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return lines


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
