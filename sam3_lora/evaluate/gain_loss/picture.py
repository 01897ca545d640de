"""Draws one adapter's gain and loss as an SVG file for its model card; the page's own chart is interactive."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sam3_lora.evaluate.gain_loss.points import Kind, Point, line
from sam3_lora.evaluate.verdict import MIN_KEPT

NAMES = {Kind.BASE: "Base", Kind.ADAPTER: "Adapter", Kind.ROUTED: "Routed"}
X_TITLE, Y_TITLE = "F1 of the dataset's phrases", "Kept of what the base finds"
GOAL = "Goal"
_WIDTH, _HEIGHT = 560, 360
_LEFT, _TOP, _RIGHT, _BOTTOM = 64, 16, 544, 304  # of the plot
_ABOVE = 26  # pixels above 100 %, for names
# Mid-tones, legible on the white and on the dark background of a card.
_TEXT, _GRID, _BASE, _ACCENT = "#737d80", "#808080", "#8c8c8c", "#0d9488"


def short_name(point: Point) -> str:
    """What a point is called in a picture: "Base", "Adapter", "Routed", or its strength, "0.5"."""
    return NAMES.get(point.kind, f"{point.strength:g}")


def lowest_kept(points: Sequence[Point]) -> float:
    """Where the axis of what is kept begins: a tenth that leaves room below the lowest point, at most 0.7."""
    return max(min(math.floor(10 * min(one.kept for one in points) - 0.5) / 10, 0.7), 0.0)


def svg(points: Sequence[Point]) -> str:
    """The picture, without any text from outside.

    Args:
        points: of one report, the base model's first.
    """
    lowest = lowest_kept(points)

    def place(f1: float, kept: float) -> tuple[float, float]:
        x = _LEFT + (_RIGHT - _LEFT) * f1
        y = _BOTTOM - (_BOTTOM - _TOP - _ABOVE) * (kept - lowest) / (1 - lowest)
        return round(x, 1), round(y, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13" fill="{_TEXT}">',
        f"<title>{X_TITLE}, and what is kept of what the base model finds</title>",
    ]
    goal_x, goal_y = place(points[0].f1, MIN_KEPT)
    parts.append(
        f'<rect x="{goal_x}" y="{_TOP}" width="{_RIGHT - goal_x:.1f}" height="{goal_y - _TOP:.1f}" fill="{_ACCENT}" '
        'fill-opacity="0.12"/>'
    )
    parts.append(_label(_RIGHT - 6, _TOP + 18, f"{GOAL} ↗", "end"))
    for tenth in range(0, 11, 2):
        x, y = place(tenth / 10, lowest)
        parts += [_rule(x, _TOP, x, y), _label(x, y + 18, f"{tenth / 10:g}", "middle")]
    step = 1 if lowest >= 0.5 else 2
    for tenth in range(10, round(10 * lowest) - 1, -step):
        x, y = place(0, tenth / 10)
        parts += [_rule(x, y, _RIGHT, y), _label(x - 8, y + 4, f"{10 * tenth}%", "end")]
    middle = (_TOP + _BOTTOM) / 2
    parts.append(_label((_LEFT + _RIGHT) / 2, _HEIGHT - 14, X_TITLE, "middle"))
    parts.append(f'<g transform="translate(16 {middle}) rotate(-90)">{_label(0, 0, Y_TITLE, "middle")}</g>')
    if way := [place(one.f1, one.kept) for one in line(points)]:
        path = " ".join(f"{x},{y}" for x, y in way)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{_ACCENT}" stroke-opacity="0.6" stroke-width="2"/>'
        )
    for point in points:
        parts += _mark(point, *place(point.f1, point.kept))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _mark(point: Point, x: float, y: float) -> list[str]:
    color = _BASE if point.kind is Kind.BASE else _ACCENT
    size = 4 if point.kind is Kind.STRENGTH else 6
    turned = f' transform="rotate(45 {x} {y})"' if point.kind is Kind.ROUTED else ""
    box = f'x="{x - size + 0.5:.1f}" y="{y - size + 0.5:.1f}" width="{2 * size - 1}" height="{2 * size - 1}"'
    shape = f"<rect {box}{turned}" if turned else f'<circle cx="{x}" cy="{y}" r="{size}"'
    name = short_name(point)
    match point.kind:  # clear of the line through the strengths
        case Kind.BASE:
            label = _label(x + 9, y + 18, name, "start")
        case Kind.STRENGTH:
            label = _label(x, y - 9 if point.strength < 1 else y + 19, name, "middle")
        case _:
            at_end = x > _RIGHT - 70
            label = _label(x - 11 if at_end else x + 11, y + 4, name, "end" if at_end else "start")
    return [f'{shape} fill="{color}"/>', label]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{_GRID}" stroke-opacity="0.25"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>'
