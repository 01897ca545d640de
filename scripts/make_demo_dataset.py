"""Generates the demo dataset: drawn pavements with cracks, potholes, joints and paint markings.

Every image depends only on the seed. Objects are drawn larger and scaled down, so that edges are as soft as a
camera's; their masks are scaled down with them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sam3_lora.demo.broken_copy import make_broken_copy
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation, encode_rle, mask_to_box_xyxy

ROOT = Path(__file__).resolve().parent.parent

SIZE = 448  # pixels a side of a finished image
DRAWN = 640
CATEGORIES = ("crack", "pothole", "joint", "paint marking")
SMALLEST_OBJECT = 40  # pixels of a finished mask; smaller objects are not annotated
JPEG_QUALITY = 80

# What one image shows; taken in turn, so that every split has all of them. Two are confusers only.
SCENES: tuple[tuple[str, ...], ...] = (
    ("crack",),
    ("pothole", "paint marking"),
    ("joint", "crack"),
    ("pothole", "pothole"),
    (),
    ("paint marking", "crack"),
    ("joint", "pothole"),
    ("crack", "crack", "joint"),
    ("paint marking", "paint marking"),
    ("pothole", "crack", "paint marking"),
    ("joint", "paint marking"),
    ("pothole", "pothole", "crack"),
    ("joint",),
    (),
    ("crack", "pothole"),
    ("pothole", "joint", "paint marking"),
)


@dataclass
class Scene:
    """A pavement being drawn. light: float32 (H, W, 3) in [0, 1]; objects: category and mask bool (H, W)."""

    rng: np.random.Generator
    light: np.ndarray
    is_asphalt: bool
    sun: np.ndarray  # unit vector (x, y) towards the light
    objects: list[tuple[str, np.ndarray]]

    def add(self, category: str, mask: np.ndarray, hides: bool = False) -> None:
        """Notes an object; one that hides what lies below takes those pixels from earlier objects."""
        if hides:
            self.objects = [(name, other & ~mask) for name, other in self.objects]
        self.objects.append((category, mask))

    def blend(self, color: Any, alpha: np.ndarray) -> None:
        self.light += (np.asarray(color, np.float32) - self.light) * alpha[..., None].astype(np.float32)


def noise(rng: np.random.Generator, coarsest: int, finest: int, persistence: float = 0.55) -> np.ndarray:
    """Fractal noise float32 (DRAWN, DRAWN), mean 0 and deviation 1; scales are in pixels."""
    total, weight, scale = np.zeros((DRAWN, DRAWN), np.float32), 1.0, float(coarsest)
    while scale >= finest:
        cells = max(2, round(DRAWN / scale) + 1)
        grid = rng.standard_normal((cells, cells)).astype(np.float32)
        total += weight * cv2.resize(grid, (DRAWN, DRAWN), interpolation=cv2.INTER_CUBIC)
        weight, scale = weight * persistence, scale / 2
    return (total - total.mean()) / total.std()


def soft(values: np.ndarray, edge: float, width: float) -> np.ndarray:
    """A smooth step from 0 to 1 around `edge`."""
    t = np.clip((values - edge) / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def blur(values: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(values.astype(np.float32), (0, 0), sigma)


def asphalt(rng: np.random.Generator) -> np.ndarray:
    """Dark bitumen with stones of several grays in it."""
    tone = rng.uniform(0.30, 0.42) + 0.022 * noise(rng, 320, 40)
    stones = blur(rng.standard_normal((DRAWN, DRAWN)), 2.2)
    stones = stones / stones.std()
    fine = blur(rng.standard_normal((DRAWN, DRAWN)), 1.0)
    tone = tone + 0.055 * np.tanh(stones) + 0.16 * soft(stones, 1.7, 0.7) - 0.12 * soft(-stones, 1.5, 0.8)
    tone += 0.05 * fine / fine.std()
    return tone[..., None] * np.array([1.0, 0.99, 0.97]) * (1 + 0.008 * noise(rng, 200, 50)[..., None] * [1, 0, -1])


def concrete(rng: np.random.Generator) -> np.ndarray:
    """Light and smooth, with the streaks of the broom and a few pores."""
    tone = rng.uniform(0.60, 0.70) + 0.03 * noise(rng, 400, 20)
    streaks = cv2.blur(rng.standard_normal((DRAWN, DRAWN)).astype(np.float32), (61, 2))
    fine = blur(rng.standard_normal((DRAWN, DRAWN)), 1.2)
    pores = blur(rng.standard_normal((DRAWN, DRAWN)), 2.0)
    tone += 0.022 * streaks / streaks.std() + 0.022 * fine / fine.std()
    tone -= 0.20 * soft(pores / pores.std(), 3.1, 0.6)
    return tone[..., None] * np.array([1.0, 0.975, 0.93]) * (1 + 0.008 * noise(rng, 300, 60)[..., None] * [1, 0, -1])


def add_stains(scene: Scene) -> None:
    """Dirt, damp and oil: darker, but flat and without an edge; easily taken for a pothole."""
    rng = scene.rng
    damp = soft(noise(rng, 260, 30), 1.1, 1.4)
    scene.light *= 1 - rng.uniform(0.05, 0.22) * damp[..., None]
    for _ in range(rng.integers(0, 3)):
        center, radius = rng.uniform(0.1, 0.9, 2) * DRAWN, rng.uniform(14, 46)
        spot = blob(rng, center, radius, roughness=0.25)
        scene.light *= 1 - rng.uniform(0.25, 0.5) * blur(spot, radius * 0.22)[..., None]


def add_shadows(scene: Scene) -> None:
    """The shadow of a pole, or of leaves: long and dark like a crack or a joint, but with the texture showing."""
    rng, shade = scene.rng, np.zeros((DRAWN, DRAWN), np.float32)
    if rng.random() < 0.5:
        start, angle = rng.uniform(0, DRAWN, 2), rng.uniform(0, np.pi)
        step = np.array([np.cos(angle), np.sin(angle)]) * 2 * DRAWN
        cv2.line(shade, *(tuple(map(int, start + sign * step)) for sign in (-1, 1)), 1.0, int(rng.integers(14, 60)))
        shade = blur(shade, rng.uniform(3, 7))
    else:
        shade = blur(soft(noise(rng, 130, 16, 0.65), rng.uniform(0.2, 0.8), 0.5), 6)
    scene.light *= 1 - rng.uniform(0.32, 0.5) * shade[..., None] * np.array([1.0, 0.97, 0.9])


def blob(rng: np.random.Generator, center: np.ndarray, radius: float, roughness: float) -> np.ndarray:
    """An irregular round patch bool (DRAWN, DRAWN)."""
    ys, xs = np.mgrid[:DRAWN, :DRAWN].astype(np.float32)
    turn, squeeze = rng.uniform(0, np.pi), rng.uniform(0.6, 0.95)
    u = (xs - center[0]) * np.cos(turn) + (ys - center[1]) * np.sin(turn)
    v = (ys - center[1]) * np.cos(turn) - (xs - center[0]) * np.sin(turn)
    distance = np.hypot(u, v / squeeze) / radius + roughness * 0.6 * noise(rng, max(8, round(radius)), 6)
    mask = (distance < 1).astype(np.uint8)
    _, labels = cv2.connectedComponents(mask)
    inside = labels[int(np.clip(center[1], 0, DRAWN - 1)), int(np.clip(center[0], 0, DRAWN - 1))]
    return (labels == inside) & (mask > 0) if inside else mask > 0


def add_pothole(scene: Scene) -> None:
    """A hole with broken edges: the rim towards the sun throws a shadow inside, the far wall is lit."""
    rng = scene.rng
    radius = rng.uniform(45, 120)
    centers = rng.uniform(0.2, 0.8, (8, 2)) * DRAWN
    holes = sum((other for name, other in scene.objects if name == "pothole"), np.zeros((DRAWN, DRAWN), bool))
    to_holes = cv2.distanceTransform(1 - holes.astype(np.uint8), cv2.DIST_L2, 5)
    center = max(centers, key=lambda xy: min(to_holes[int(xy[1]), int(xy[0])], 2 * radius))
    mask = blob(rng, center, radius, roughness=0.3) & (to_holes > 12)
    depth = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    floor = soft(depth, 0.16 * radius, 0.36 * radius) + 0.10 * noise(rng, 40, 6, 0.7) * np.minimum(depth / 10, 1)
    slope_x, slope_y = cv2.Sobel(floor, cv2.CV_32F, 1, 0, ksize=5), cv2.Sobel(floor, cv2.CV_32F, 0, 1, ksize=5)
    lit = slope_x * scene.sun[0] + slope_y * scene.sun[1]  # the ground falls towards the sun
    shift = np.float32([[1, 0, -scene.sun[0] * 0.22 * radius], [0, 1, -scene.sun[1] * 0.22 * radius]])
    in_shadow = blur(mask & (cv2.warpAffine(mask.astype(np.uint8), shift, (DRAWN, DRAWN)) == 0), 3)
    rubble = blur(rng.standard_normal((DRAWN, DRAWN)), 2.6)
    tone = (0.34 if scene.is_asphalt else 0.46) - 0.19 * floor + 0.045 * rubble / rubble.std() + 0.022 * lit
    tone *= 1 - 0.72 * in_shadow
    earth = np.clip(tone, 0.03, 0.9)[..., None] * np.array([1.05, 0.98, 0.88])
    halo = blur(cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))), 4) * (0.7 + 0.3 * noise(rng, 24, 6))
    scene.light *= 1 + 0.10 * np.clip(halo, 0, 1)[..., None] * (1 - mask[..., None])
    gravel = soft(rubble / rubble.std(), 2.2, 0.5) * blur(mask, 0.3 * radius)
    scene.blend(0.8 * scene.light.mean() + 0.2, 0.6 * gravel)
    scene.blend(earth, blur(mask, 1.0))
    scene.add("pothole", mask, hides=True)


def wander(rng: np.random.Generator, start: np.ndarray, angle: float, length: float, wild: float) -> np.ndarray:
    """A crooked path (K, 2) of steps of 5 pixels."""
    points, drift = [start], angle
    for _ in range(int(length / 5)):
        drift += rng.normal(0, 0.10)
        angle = drift + rng.normal(0, wild)
        points.append(points[-1] + 5 * np.array([np.cos(angle), np.sin(angle)]))
    return np.array(points)


def add_crack(scene: Scene) -> None:
    """A thin dark line that tapers, and branches."""
    rng, width = scene.rng, scene.rng.uniform(11, 18)
    line = np.zeros((DRAWN, DRAWN), np.uint8)
    angle = rng.uniform(0, 2 * np.pi)
    start = (0.5 + rng.uniform(-0.25, 0.25, 2)) * DRAWN - 0.3 * DRAWN * np.array([np.cos(angle), np.sin(angle)])
    trunk = wander(rng, start, angle, rng.uniform(0.45, 1.0) * DRAWN, 0.55)
    paths = [(trunk, width)]
    for _ in range(rng.integers(0, 4)):
        at = int(rng.uniform(0.15, 0.8) * len(trunk))
        turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.1)
        paths.append((wander(rng, trunk[at], angle + turn, rng.uniform(0.08, 0.3) * DRAWN, 0.6), width * 0.7))
    for path, thick in paths:
        taper = thick * (1 - 0.5 * np.linspace(0, 1, len(path))) * rng.uniform(0.75, 1.25, len(path))
        for a, b, t in zip(path[:-1], path[1:], taper, strict=False):
            ends = (tuple(np.round(16 * point).astype(int).tolist()) for point in (a, b))
            cv2.line(line, *ends, 255, max(2, round(t)), cv2.LINE_AA, shift=4)
    core = line / 255.0
    shift = np.float32([[1, 0, -scene.sun[0] * 2], [0, 1, -scene.sun[1] * 2]])
    lit_edge = np.clip(cv2.warpAffine(blur(core, 1.5), shift, (DRAWN, DRAWN)) - core, 0, 1)
    scene.light *= 1 - 0.22 * blur(core, 4)[..., None] + 0.22 * lit_edge[..., None]
    scene.blend((0.085, 0.08, 0.075) if scene.is_asphalt else (0.17, 0.155, 0.14), 0.92 * blur(core, 0.8))
    scene.add("crack", cv2.dilate((core > 0.4).astype(np.uint8), np.ones((5, 5))) > 0)


def across(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A point near the middle, and the direction of a line through it: nearly level or nearly upright."""
    angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.09)
    return rng.uniform(0.22, 0.78, 2) * DRAWN, np.array([np.cos(angle), np.sin(angle)])


def add_joint(scene: Scene) -> None:
    """Concrete: a straight sawn groove. Asphalt: a seam that was sealed with a band of bitumen."""
    rng = scene.rng
    center, direction = across(rng)
    ys, xs = np.mgrid[:DRAWN, :DRAWN].astype(np.float32)
    distance = np.abs((xs - center[0]) * direction[1] - (ys - center[1]) * direction[0])
    if scene.is_asphalt:
        half = rng.uniform(9, 14) + 1.6 * noise(rng, 60, 10)
        band = soft(half - distance, 0, 2.0)
        sheen = 0.115 + 0.03 * soft(noise(rng, 80, 8), 0.6, 1.2)
        scene.blend(sheen[..., None] * np.array([0.97, 1.0, 1.04]), 0.93 * band)
    else:
        half = rng.uniform(7, 10) + 0.5 * noise(rng, 30, 5)
        band = soft(half - distance, 0, 1.6)
        scene.light *= 1 + 0.10 * (soft(half + 7 - distance, 0, 5) - band)[..., None]
        filled = 0.20 + 0.05 * noise(rng, 20, 3)
        scene.blend(filled[..., None] * np.array([1.0, 0.96, 0.9]), 0.9 * band)
    scene.add("joint", distance < half, hides=True)


def add_marking(scene: Scene) -> None:
    """A painted bar, white or yellow, worn off where the stones stand out."""
    rng = scene.rng
    center, direction = across(rng)
    normal = np.array([-direction[1], direction[0]])
    reach, half = rng.uniform(0.18, 0.9) * DRAWN, rng.uniform(24, 44)
    corners = [center + a * reach * direction + b * half * normal for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    area = np.zeros((DRAWN, DRAWN), np.uint8)
    cv2.fillPoly(area, [np.round(corners).astype(np.int32)], 1)
    ragged = blur(area, 3) + 0.07 * noise(rng, 20, 4, 0.8) > 0.5
    wear = soft(noise(rng, 70, 3, 0.8), rng.uniform(0.9, 1.9), 0.7)
    color = (0.88, 0.87, 0.84) if rng.random() < 0.65 else (0.86, 0.64, 0.16)
    grain = np.clip(scene.light.mean(axis=2, keepdims=True) - float(scene.light.mean()), -0.12, 0.12)
    scene.blend(np.asarray(color) + 0.35 * grain, blur(ragged, 0.8) * (0.97 - 0.92 * wear))
    scene.add("paint marking", ragged, hides=True)


PAINTERS: dict[str, Callable[[Scene], None]] = {
    "joint": add_joint,
    "paint marking": add_marking,
    "crack": add_crack,
    "pothole": add_pothole,
}


def draw(rng: np.random.Generator, contents: tuple[str, ...]) -> tuple[np.ndarray, list[tuple[str, np.ndarray]]]:
    """One image uint8 (SIZE, SIZE, 3) RGB and its objects: category and mask bool (SIZE, SIZE)."""
    is_asphalt = bool(rng.random() < 0.6)
    toward_sun = rng.uniform(-0.8, -0.2) * np.pi  # from above: else the eye takes hollows for bumps
    sun = np.array([np.cos(toward_sun), np.sin(toward_sun)])
    light = (asphalt if is_asphalt else concrete)(rng).astype(np.float32)
    scene = Scene(rng, light, is_asphalt, sun, [])
    add_stains(scene)
    for category in PAINTERS:  # from the lowest layer to the highest
        for _ in range(contents.count(category)):
            PAINTERS[category](scene)
    if rng.random() < (0.35 if contents else 0.9):
        add_shadows(scene)
    ys, xs = np.mgrid[:DRAWN, :DRAWN] / DRAWN - 0.5
    falloff = 1 + rng.uniform(0.1, 0.35) * (xs * sun[0] + ys * sun[1]) - rng.uniform(0.15, 0.4) * (xs**2 + ys**2)
    warmth = np.array([1.0, 1.0, 1.0]) + rng.uniform(-0.035, 0.035) * np.array([1, 0, -1])
    lit = scene.light * falloff[..., None] * warmth * rng.uniform(0.95, 1.2)
    small = cv2.resize(lit.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    small += rng.normal(0, 0.010, small.shape)
    image = np.round(255 * np.clip(small, 0, 1)).astype(np.uint8)
    objects = [
        (name, cv2.resize(mask.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA) >= 0.5)
        for name, mask in scene.objects
    ]
    return image, [(name, mask) for name, mask in objects if mask.sum() >= SMALLEST_OBJECT]


def polygons(mask: np.ndarray) -> list[list[float]]:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outlines = [cv2.approxPolyDP(contour, 0.7, True).reshape(-1).tolist() for contour in contours]
    return [[float(value) for value in outline] for outline in outlines if len(outline) >= 6]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed run lengths: down the columns, zeros first."""
    flat = np.concatenate(([False], mask.T.reshape(-1)))
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, mask.size]).tolist()}


def annotate(index: int, image_id: int, category: str, mask: np.ndarray) -> dict[str, Any]:
    """One COCO annotation: polygons for compact objects, run lengths of either kind for thin ones."""
    if category == "crack":
        segmentation = encode_rle(mask) if index % 2 else run_lengths(mask)
    else:
        segmentation = polygons(mask) or encode_rle(mask)
    decoded = decode_segmentation(segmentation, mask.shape)
    x0, y0, x1, y1 = mask_to_box_xyxy(decoded)
    return {
        "id": index,
        "image_id": image_id,
        "category_id": CATEGORIES.index(category) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": int(decoded.sum()),
        "segmentation": segmentation,
        "iscrowd": 0,
    }


def write_split(folder: Path, count: int, seed: tuple[int, ...]) -> None:
    folder.mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        image, objects = draw(np.random.default_rng((*seed, number)), SCENES[number % len(SCENES)])
        file_name = f"pavement_{folder.name}_{number:03d}.jpg"
        cv2.imwrite(
            str(folder / file_name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
        )
        images.append({"id": number, "file_name": file_name, "width": SIZE, "height": SIZE})
        annotations += [
            annotate(len(annotations) + offset, number, name, mask) for offset, (name, mask) in enumerate(objects)
        ]
    categories = [{"id": i, "name": name, "supercategory": "pavement"} for i, name in enumerate(CATEGORIES, start=1)]
    info = {"description": "Drawn pavements, made by scripts/make_demo_dataset.py", "version": "1"}
    content = {"info": info, "categories": categories, "images": images, "annotations": annotations}
    (folder / "_annotations.coco.json").write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "demo" / "dataset", help="folder to write")
    parser.add_argument("--train", type=int, default=64, help="images to train on")
    parser.add_argument("--valid", type=int, default=24, help="images to measure on")
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other images")
    parser.add_argument("--broken", action="store_true", help="copy what ships, with one of each fault, to --out")
    arguments = parser.parse_args()
    if arguments.broken:
        try:
            make_broken_copy(ROOT / "assets" / "demo" / "dataset", arguments.out)
        except DataError as error:
            parser.error(str(error))
        return
    for part, (name, count) in enumerate((("train", arguments.train), ("valid", arguments.valid))):
        shutil.rmtree(arguments.out / name, ignore_errors=True)
        write_split(arguments.out / name, count, (arguments.seed, part))


if __name__ == "__main__":
    main()
