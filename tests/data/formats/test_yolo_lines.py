"""Boxes with keypoints are told from polygons by their numbers."""

from __future__ import annotations

import numpy as np
import pytest

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.formats.yolo_lines import pose_length
from tests.data.formats.helpers import YOLO_NAMES, yolo
from tests.factories import kinds

SEEN = {"no": (), "0/1/2": (0, 1, 2), "0/1": (0, 1)}


def poses(points: int, seen: str = "no", count: int = 20) -> list[list[float]]:
    rng = np.random.default_rng(points)
    rows = []
    for w, h in rng.uniform(0.1, 0.5, (count, 2)):
        x, y = rng.uniform((w / 2, h / 2), (1 - w / 2, 1 - h / 2))
        row = [x, y, w, h]
        for dx, dy in rng.uniform(-0.4, 0.4, (points, 2)):
            mark = [int(rng.choice(SEEN[seen]))] if SEEN[seen] else []
            row += [0.0, 0.0, 0] if mark == [0] else [x + dx * w, y + dy * h, *mark]
        rows.append(row)
    return rows


def polygons(corners: int, count: int = 20, radius: float = 0.2, angle: float | None = None) -> list[list[float]]:
    rng = np.random.default_rng(corners)
    rows = []
    for a, b in rng.uniform(0.02, radius, (count, 2)):
        x, y = rng.uniform((a, b), (1 - a, 1 - b))
        turns = (rng.uniform() if angle is None else angle) * 2 * np.pi + np.arange(corners) * 2 * np.pi / corners
        rows.append(np.stack([x + a * np.cos(turns), y + b * np.sin(turns)], 1).ravel().tolist())
    return rows


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("points", [1, 2, 3, 5, 17])
def test_poses_are_recognised(points, seen):
    rows = [[0.5, 0.5, 0.1, 0.1], *poses(points, seen)]
    assert pose_length(rows) == 4 + points * (2 if seen == "no" else 3)


@pytest.mark.parametrize("radius", [0.04, 0.2, 0.4])
@pytest.mark.parametrize("corners", [3, 4, 5, 8, 12])
def test_polygons_of_one_length_are_none(corners, radius):
    assert pose_length(polygons(corners, radius=radius)) == 0


def test_corners_of_rotated_boxes_and_mixed_lengths_are_none():
    assert pose_length(polygons(4, angle=1 / 8)) == pose_length(polygons(4, count=1, angle=1 / 8)) == 0
    assert pose_length(poses(2) + poses(3)) == 0 and pose_length([]) == 0
    assert pose_length([[0.5, 0.5, 0.1, 0.1, 0.9]] * 5) == 0


@pytest.mark.parametrize(("task", "expected"), [("", ["keypoints-not-read"]), ("task: segment\n", [])])
def test_poses_without_kpt_shape_give_boxes_and_are_told(tmp_path, task, expected):
    labels, images = tmp_path / "train" / "labels", tmp_path / "train" / "images"
    yolo(tmp_path, labels, images, yaml=task + YOLO_NAMES)
    for path in labels.iterdir():
        path.write_text("".join(f"0 {' '.join(f'{value:.4f}' for value in row)}\n" for row in poses(3, count=4)))
    dataset = open_dataset(tmp_path)
    assert [kind for kind in kinds(dataset) if kind != "unused-category"] == expected
    items = [item for image in dataset.split("train").images for item in image.annotations]
    assert len(items) == 20 and all((item.segmentation is None) == bool(expected) for item in items)
    if expected:
        assert dataset.findings[0].variant == "guessed" and dataset.findings[0].count == 20


def test_lines_that_do_not_fit_the_shape_of_poses_are_told(tmp_path):
    labels, images = tmp_path / "train" / "labels", tmp_path / "train" / "images"
    yolo(tmp_path, labels, images, polygons=False, yaml=f"kpt_shape: [3, 2]\n{YOLO_NAMES}")
    path = sorted(labels.iterdir())[0]
    path.write_text("0 0.5 0.5 0.25 0.5 0.1 0.1 0.2 0.2\n")
    dataset = open_dataset(tmp_path)
    assert kinds(dataset) == ["bad-label-line"] and dataset.findings[0].locations[0].image == f"{path.stem}.png"


@pytest.mark.parametrize("points", [1, 5, 17])
def test_predicted_poses_have_a_confidence_per_point(points):
    rows = poses(points, "0/1")
    for row in rows:
        row[6::3] = [0.37 + mark / 2 for mark in row[6::3]]
    assert pose_length(rows) == 4 + points * 3


@pytest.mark.parametrize("corners", [3, 6, 9, 12])
def test_polygons_with_a_confidence_are_no_poses(corners):
    assert pose_length([[*row, 0.9] for row in polygons(corners)]) == 0
