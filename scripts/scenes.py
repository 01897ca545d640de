"""Generates scenes for the demo's base model: textured grounds with overlapping figures, and phrases about them.

A figure has a kind, a color and a pattern; a phrase names a kind alone or with one of the two. :func:`answers` decides
which figures a phrase names, so that every phrase has an exact set of objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

COLORS = {
    "red": (205, 45, 45),
    "green": (50, 155, 70),
    "blue": (50, 85, 205),
    "yellow": (230, 200, 55),
    "purple": (140, 65, 170),
    "white": (238, 238, 235),
    "black": (28, 28, 30),
}
PATTERNS = ("plain", "striped", "dotted")
THIN = ("line", "twig", "ring")  # too thin for a pattern
# Nouns of no figure; a model trained without them would fire on any word.
FOREIGN = """
    car dog cat tree house person bicycle bottle chair lamp shoe apple bread cloud river mountain bird fish horse
    window door clock phone book table cup spoon hat glove flower grass stone boat train plane truck wheel bag key
    coin leaf rope brush ladder bucket fence bridge tower sofa mirror towel pillow carrot onion cheese egg sheep
""".split()
SIDE = 168
_FINE = 2  # figures are drawn at twice the size and scaled down, for smooth edges


@dataclass(frozen=True)
class Figure:
    """One object, and the bitmap (SIDE, SIDE) bool of its visible part."""

    kind: str
    color: str
    pattern: str
    mask: np.ndarray


@dataclass(frozen=True)
class Scene:
    """image (SIDE, SIDE, 3) uint8 RGB, and its figures."""

    image: np.ndarray
    figures: tuple[Figure, ...]


def make_scene(rng: np.random.Generator, max_figures: int = 6) -> Scene:
    """A ground with one to `max_figures` figures; one in twelve scenes has none."""
    image = ground(rng)
    if rng.random() < 0.4:
        image = _shade(rng, image)
    drawn: list[tuple[str, str, str, np.ndarray]] = []
    count = 0 if rng.random() < 1 / 12 else int(rng.integers(1, max_figures + 1))
    for _ in range(count):
        kind = str(rng.choice(list(KINDS)))
        color = str(rng.choice(list(COLORS)))
        pattern = str(rng.choice(PATTERNS, p=(0.6, 0.2, 0.2))) if kind not in THIN else "plain"
        coverage = KINDS[kind](rng)
        image = _paint(image, coverage, _surface(rng, color, pattern))
        shape = coverage > 0.5
        drawn = [(k, c, p, mask & ~shape) for k, c, p, mask in drawn] + [(kind, color, pattern, shape)]
    figures = tuple(Figure(*parts) for parts in drawn if parts[3].sum() >= 24)
    return Scene(np.clip(image + rng.normal(0, 4, image.shape), 0, 255).astype(np.uint8), figures)


def answers(phrase: str, figure: Figure) -> bool:
    """Whether the phrase names the figure."""
    *attributes, kind = phrase.split()
    return figure.kind == kind and all(word in (figure.color, figure.pattern) for word in attributes)


def ask(rng: np.random.Generator, scene: Scene, positives: int = 2, negatives: int = 1) -> list[str]:
    """Phrases for a scene: some of its figures, and some of absent ones, most of them similar to those there."""
    true = {phrase for figure in scene.figures for phrase in _names(figure)}
    asked = [str(p) for p in rng.permutation(sorted(true))[:positives]]
    while len(asked) < min(len(true), positives) + negatives + max(0, positives - len(true)):
        phrase = _absent(rng, scene)
        if phrase not in true and phrase not in asked:
            asked.append(phrase)
    return asked


def _names(figure: Figure) -> list[str]:
    names = [figure.kind, f"{figure.color} {figure.kind}"]
    return names + ([f"{figure.pattern} {figure.kind}"] if figure.pattern != "plain" else [])


def _absent(rng: np.random.Generator, scene: Scene) -> str:
    chance = rng.random()
    if chance < 0.25:
        return str(rng.choice(FOREIGN))
    if chance < 0.65 and scene.figures:  # right kind, wrong color or pattern
        kind = scene.figures[int(rng.integers(len(scene.figures)))].kind
    else:
        kind = str(rng.choice(list(KINDS)))
    if chance > 0.85:
        return kind
    words = [*COLORS, *(PATTERNS[1:] if kind not in THIN else ())]
    return f"{rng.choice(words)} {kind}"


def ground(rng: np.random.Generator) -> np.ndarray:
    """A textured ground (SIDE, SIDE, 3) float32: smooth color, several grains of noise, light from one side."""
    color = rng.uniform(60, 200) + rng.normal(0, 14, 3)
    image = np.broadcast_to(color.astype(np.float32), (SIDE, SIDE, 3)).copy()
    for grain in (4, 12, 40, SIDE):
        noise = rng.normal(0, rng.uniform(2, 11), (grain, grain)).astype(np.float32)
        image += cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]
    image += rng.normal(0, rng.choice((0, 12, 25)), (SIDE, SIDE, 1))  # from smooth to gravel
    angle = rng.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j].astype(np.float32)
    return image * (1 + rng.uniform(0, 0.25) * (np.cos(angle) * columns + np.sin(angle) * rows))[..., None]


def _shade(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """The ground under one to four soft shadows and stains, which are not objects."""
    for _ in range(int(rng.integers(1, 5))):
        shape = _bar(rng) if rng.random() < 0.4 else _blob(rng)
        soft = cv2.GaussianBlur(shape, (0, 0), rng.uniform(1, 5))
        image = image * (1 - rng.uniform(0.15, 0.45) * soft[..., None])
    return image


def _surface(rng: np.random.Generator, color: str, pattern: str) -> np.ndarray:
    """A figure's paint (SIDE, SIDE, 3) float32."""
    base = np.clip(np.array(COLORS[color]) + rng.normal(0, 12, 3), 0, 255)
    surface = np.broadcast_to(base.astype(np.float32), (SIDE, SIDE, 3)).copy()
    if pattern != "plain":
        other = base + (95 if base.mean() < 128 else -95)
        angle, period = rng.uniform(0, np.pi), rng.uniform(9, 14)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        along = np.cos(angle) * columns + np.sin(angle) * rows
        across = -np.sin(angle) * columns + np.cos(angle) * rows
        wave = np.cos(along * 2 * np.pi / period)
        if pattern == "dotted":
            wave = wave + np.cos(across * 2 * np.pi / period) - 0.9
        surface[wave > 0] = np.clip(other, 0, 255)
    return surface + rng.normal(0, rng.choice((0, 0, 10, 25)), (SIDE, SIDE, 1))


def _paint(image: np.ndarray, coverage: np.ndarray, surface: np.ndarray) -> np.ndarray:
    return image * (1 - coverage[..., None]) + surface * coverage[..., None]


def _canvas(draw: Callable[[np.ndarray], None]) -> np.ndarray:
    """Coverage (SIDE, SIDE) float32 in [0, 1] of what `draw` fills with 255 on a finer canvas."""
    canvas = np.zeros((SIDE * _FINE, SIDE * _FINE), np.uint8)
    draw(canvas)
    return cv2.resize(canvas, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def _place(rng: np.random.Generator) -> tuple[np.ndarray, float, float]:
    """Center (x, y) and radius on the fine canvas, and an angle."""
    radius = rng.uniform(12, 36) * _FINE
    center = rng.uniform(0.6 * radius, SIDE * _FINE - 0.6 * radius, 2)
    return center, radius, rng.uniform(0, 2 * np.pi)


def _polygon(center: np.ndarray, radii: np.ndarray, angle: float) -> np.ndarray:
    """A closed outline whose corners lie at even angles and the given radii."""
    angles = angle + np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    corners = center + radii[:, None] * np.stack((np.cos(angles), np.sin(angles)), axis=1)
    return _canvas(lambda canvas: cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 255))


def _circle(rng: np.random.Generator) -> np.ndarray:
    center, radius, _ = _place(rng)
    return _canvas(lambda canvas: cv2.circle(canvas, center.astype(int).tolist(), int(radius * 0.9), 255, -1))


def _ring(rng: np.random.Generator) -> np.ndarray:
    center, radius, _ = _place(rng)
    width = max(6, int(radius * rng.uniform(0.2, 0.35)))
    return _canvas(lambda canvas: cv2.circle(canvas, center.astype(int).tolist(), int(radius * 0.85), 255, width))


def _square(rng: np.random.Generator) -> np.ndarray:
    center, radius, angle = _place(rng)
    return _polygon(center, np.full(4, radius * 1.1), angle)


def _triangle(rng: np.random.Generator) -> np.ndarray:
    center, radius, angle = _place(rng)
    return _polygon(center, np.full(3, radius * 1.2), angle)


def _star(rng: np.random.Generator) -> np.ndarray:
    center, radius, angle = _place(rng)
    return _polygon(center, np.tile((radius * 1.25, radius * 0.5), 5), angle)


def _cross(rng: np.random.Generator) -> np.ndarray:
    center, radius, angle = _place(rng)
    arm = np.stack((np.cos([angle, angle + np.pi / 2]), np.sin([angle, angle + np.pi / 2])), axis=1) * radius * 1.1

    def draw(canvas: np.ndarray) -> None:
        for direction in arm:
            ends = np.stack((center - direction, center + direction)).round().astype(int).tolist()
            cv2.line(canvas, *ends, 255, max(6, int(radius * 0.45)))

    return _canvas(draw)


def _blob(rng: np.random.Generator) -> np.ndarray:
    """An irregular round patch."""
    center, radius, angle = _place(rng)
    around = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    wobble = sum(rng.uniform(0.08, 0.2) * np.cos(k * around + rng.uniform(0, 6.3)) for k in (2, 3, 5))
    return _polygon(center, radius * (1 + wobble), angle)


def _line(rng: np.random.Generator) -> np.ndarray:
    """A thin wandering stroke."""
    length, steps = rng.uniform(0.35, 0.9) * SIDE * _FINE, 24
    heading = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, 0.18, steps))
    path = np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=1) * length / steps, axis=0)
    path += rng.uniform(0.2, 0.8, 2) * SIDE * _FINE - path.mean(0)
    width = int(rng.integers(5, 15))
    return _canvas(lambda canvas: cv2.polylines(canvas, [path.round().astype(np.int32)], False, 255, width))


def _bar(rng: np.random.Generator) -> np.ndarray:
    """A straight band, often from edge to edge."""
    angle, length = rng.uniform(0, np.pi), rng.uniform(0.4, 2.4) * SIDE * _FINE
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-along[1], along[0]]) / length * rng.uniform(5, 56)
    center = rng.uniform(0.15, 0.85, 2) * SIDE * _FINE
    corners = center + np.stack((along + across, along - across, -along - across, across - along))
    return _canvas(lambda canvas: cv2.fillPoly(canvas, [corners.round().astype(np.int32)], 255))


def _twig(rng: np.random.Generator) -> np.ndarray:
    """A thin jagged stroke with up to four branches."""

    def stroke(start: np.ndarray, heading: float, length: float) -> np.ndarray:
        headings = heading + np.cumsum(rng.normal(0, 0.35, 12)) * 0.7
        steps = np.stack((np.cos(headings), np.sin(headings)), axis=1) * length / 12
        return start + np.concatenate((np.zeros((1, 2)), np.cumsum(steps, axis=0)))

    heading, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8) * SIDE * _FINE
    trunk = stroke(np.zeros(2), heading, length)
    strokes = [trunk]
    for _ in range(int(rng.integers(0, 5))):
        turn = rng.choice((-1, 1)) * rng.uniform(0.4, 1.2)
        strokes.append(stroke(trunk[int(rng.integers(2, 11))], heading + turn, length * rng.uniform(0.2, 0.5)))
    shift = rng.uniform(0.2, 0.8, 2) * SIDE * _FINE - trunk.mean(0)
    paths, width = [(one + shift).round().astype(np.int32) for one in strokes], int(rng.integers(4, 9))
    return _canvas(lambda canvas: cv2.polylines(canvas, paths, False, 255, width))


KINDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "circle": _circle,
    "ring": _ring,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "blob": _blob,
    "line": _line,
    "bar": _bar,
    "twig": _twig,
}
