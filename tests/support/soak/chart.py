"""The chart of a soak as SVG: one panel for each figure, with its line after the warm-up.

Written by hand: a library of charts would be the largest dependency of the project, for one picture.
"""

from collections.abc import Sequence
from html import escape

from tests.support.soak.figures import Sample, Verdict, without_warm_up

WIDTH, PANEL, GAP = 760, 90, 44  # pixels
LEFT, TOP = 70, 56
MINUTE = 60.0
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f } .title { font-size: 14px; font-weight: 600 }
.small { font-size: 11px; fill: #57606a } .panel { fill: #f6f8fa } .values { fill: none; stroke: #0969da }
.slope { stroke: #bc4c00; stroke-width: 2; stroke-dasharray: 6 3 } .begin { stroke: #8c959f; stroke-dasharray: 2 3 }
"""


def draw(title: str, measured: Sequence[tuple[Verdict, Sequence[Sample]]]) -> str:
    height = TOP + len(measured) * (PANEL + GAP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="title" x="{LEFT}" y="22">{escape(title)}</text>',
    ]
    for number, (verdict, samples) in enumerate(measured):
        lines += _panel(TOP + number * (PANEL + GAP), verdict, samples)
    return "\n".join((*lines, "</svg>", ""))


def _panel(top: float, verdict: Verdict, samples: Sequence[Sample]) -> list[str]:
    end = samples[-1].at or 1.0
    most = max(each.value for each in samples) * 1.1 or 1.0
    steady = without_warm_up(samples)
    middle = sum(each.value for each in steady) / len(steady)

    def place(at: float, value: float) -> tuple[float, float]:
        return LEFT + at / end * (WIDTH - LEFT - 20), top + PANEL * (1 - value / most)

    points = " ".join("{:.1f},{:.1f}".format(*place(*each)) for each in samples)
    begin, ends = steady[0].at, ((steady[0].at, -0.5), (steady[-1].at, 0.5))
    (x1, y1), (x2, y2) = (place(at, middle + share * verdict.growth) for at, share in ends)
    border = place(begin, 0)[0]
    return [
        f'<rect class="panel" x="{LEFT}" y="{top}" width="{WIDTH - LEFT - 20}" height="{PANEL}"/>',
        f'<text x="{LEFT}" y="{top - 6}">{escape(str(verdict))}</text>',
        f'<text class="small" x="{LEFT - 6}" y="{top + 10}" text-anchor="end">{most:,.0f}</text>',
        f'<text class="small" x="{LEFT - 6}" y="{top + PANEL}" text-anchor="end">0</text>',
        f'<text class="small" x="{WIDTH - 20}" y="{top + PANEL + 13}" text-anchor="end">{end / MINUTE:.1f} min</text>',
        f'<line class="begin" x1="{border:.1f}" x2="{border:.1f}" y1="{top}" y2="{top + PANEL}"/>',
        f'<polyline class="values" points="{points}"/>',
        f'<line class="slope" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>',
    ]
