"""Augmented samples: what the targets say is what is in the picture, whatever was done to it."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam3_lora.boxes import cxcywh_to_xyxy
from sam3_lora.config import AugmentationConfig
from sam3_lora.data.augmentation.pictures import MIN_VISIBLE, augment, draw_change
from sam3_lora.data.prompts import Prompt
from sam3_lora.data.records import Annotation, ImageRecord
from sam3_lora.masks import encode_rle, mask_to_box_xyxy
from tests.factories import ellipse, tiny_processor

SIDE = tiny_processor().image_processor.size["height"]
ALL = AugmentationConfig(scale_min=0.4, crop_min=0.4, rotation=30)


def drawn(size_hw, ellipses, has_mask=True) -> tuple[np.ndarray, ImageRecord]:
    """A gray picture with bright ellipses ((x, y), (rx, ry)) that do not overlap, and its record."""
    image, annotations = np.full((*size_hw, 3), 60, np.uint8), []
    for number, (center, radius) in enumerate(ellipses):
        mask = ellipse(size_hw, center, radius)
        image[mask] = 250
        left, top, right, bottom = mask_to_box_xyxy(mask)
        segmentation = encode_rle(mask) if has_mask else None
        box = (left, top, right - left, bottom - top)
        annotations.append(Annotation(number, "blob", box, segmentation, False))
    return image, ImageRecord(0, "a.png", None, size_hw[1], size_hw[0], tuple(annotations))


def changed(image, record, config, seed, asked=None):
    asked = asked or [Prompt("blob", record.annotations), Prompt("cat", ())]
    return augment(image, record, asked, tiny_processor().image_processor, config, np.random.default_rng(seed))


SCENES = st.fixed_dictionaries(
    {
        "size_hw": st.sampled_from([(168, 168), (150, 300), (420, 200)]),
        "column": st.floats(0.15, 0.85),
        "radius": st.tuples(st.floats(0.05, 0.12), st.floats(0.05, 0.2)),
        "seed": st.integers(0, 10_000),
    }
)


def scene_of(size_hw, column, radius, seed, has_mask=True):
    height, width = size_hw
    sizes = (radius[0] * width, radius[1] * height)
    return drawn(size_hw, [((column * width, row * height), sizes) for row in (0.25, 0.75)], has_mask)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCENES, st.sampled_from([ALL, AugmentationConfig(scale_min=0.4), AugmentationConfig(crop_min=0.4)]))
def test_boxes_and_masks_are_where_the_objects_are_seen(scene, config):
    image, record = scene_of(**scene)
    found = changed(image, record, config, scene["seed"])
    targets = found.targets
    assert targets.masks.shape == (len(targets.boxes), SIDE, SIDE) and targets.mask_valid.all()
    assert found.image.shape == (SIDE, SIDE, 3) and found.image.dtype == np.uint8
    for mask, box in zip(targets.masks.numpy(), cxcywh_to_xyxy(targets.boxes) * SIDE, strict=True):
        # A pixel of the image is up to `SIDE / 150` of the model's, whose masks are by nearest neighbor.
        assert mask_to_box_xyxy(mask) == pytest.approx(box.tolist(), abs=2.5)
    bright = found.image[..., 0] > 155
    wrong = bright ^ targets.masks.any(0).numpy()
    edges = SIDE * len(record.annotations)
    if targets.exhaustive.all():
        assert wrong.sum() < edges
    else:  # what is left of an object that is no target is seen, too
        assert (~bright & targets.masks.any(0).numpy()).sum() < edges
    black = found.image.max(2) < 5
    assert not (black & targets.masks.any(0).numpy()).any()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCENES)
def test_objects_without_a_mask_are_never_cut_nor_rotated(scene):
    image, record = scene_of(**scene, has_mask=False)
    found = changed(image, record, ALL, scene["seed"])
    assert found.change.degrees == 0 and found.targets.masks is None and found.targets.exhaustive.all()
    boxes = (cxcywh_to_xyxy(found.targets.boxes) * SIDE).tolist()
    bright = found.image[..., 0] > 155
    assert len(boxes)
    for left, top, right, bottom in boxes:
        # The ellipse touches the box on all sides: cut off, it would touch it with a straight edge.
        inside = np.zeros_like(bright)
        inside[max(0, round(top) - 2) : round(bottom) + 2, max(0, round(left) - 2) : round(right) + 2] = True
        assert mask_to_box_xyxy(bright & inside) == pytest.approx([left, top, right, bottom], abs=2.5)


def test_a_phrase_without_an_object_left_is_not_asked():
    image, record = drawn((200, 200), [((20, 20), (8, 8)), ((180, 180), (8, 8))])
    near, far = record.annotations
    asked = [Prompt("near", (near,)), Prompt("far", (far,)), Prompt("cat", ())]
    seen = set()
    for seed in range(40):
        found = changed(image, record, AugmentationConfig(crop_min=0.3), seed, asked)
        phrases = [one.phrase for one in found.asked]
        seen.add(tuple(phrases))
        assert "cat" in phrases and len(phrases) > 1
        assert found.targets.counts.tolist() == [int(phrase != "cat") for phrase in phrases]
        assert len(found.targets.exhaustive) == len(phrases)
    assert {("near", "cat"), ("far", "cat")} <= seen


def test_what_is_left_of_an_object_is_a_target_or_makes_its_phrase_incomplete():
    image, record = drawn((200, 200), [((50, 100), (12, 12)), ((150, 100), (12, 12))])
    full = np.pi * 12**2
    kinds = set()
    for seed in range(150):
        found = changed(image, record, AugmentationConfig(crop_min=0.4), seed, [Prompt("blob", record.annotations)])
        pixels = (found.image[..., 0] > 155).sum() * (200 / SIDE * found.change.zoom) ** 2  # of the image
        (count,), (exhaustive,) = found.targets.counts.tolist(), found.targets.exhaustive.tolist()
        rest = pixels / full - 1  # share of the other object
        if count == 2:
            assert rest > MIN_VISIBLE - 0.1 and exhaustive
            kinds.add("target")
        elif rest > 0.05:
            assert rest < MIN_VISIBLE + 0.1 and not exhaustive
            kinds.add("incomplete")
        elif exhaustive:
            kinds.add("left")
    assert kinds == {"target", "incomplete", "left"}


def test_phrases_that_were_incomplete_stay_so():
    image, record = drawn((200, 200), [((100, 100), (20, 20))])
    found = changed(image, record, ALL, 0, [Prompt("blob", record.annotations, exhaustive=False)])
    assert found.targets.exhaustive.tolist() == [False]


@pytest.mark.parametrize("name", ["scale_min", "crop_min", "rotation", "color_jitter", "hue"])
def test_each_setting_changes_pixels_alone(name):
    value = {"rotation": 20, "hue": 0.5}.get(name, 0.5)
    image, record = drawn((200, 200), [((100, 100), (40, 40))])
    image[..., 1] //= 2
    off, on = AugmentationConfig(), AugmentationConfig(**{name: value})
    assert on.changes_pixels and not off.changes_pixels
    same = changed(image, record, off, 0)
    found = changed(image, record, on, 1)
    assert np.abs(found.image.astype(int) - same.image).mean() > 1
    fixed = {field.name for field in dataclasses.fields(found.change)} - {
        {"scale_min": "scale", "crop_min": "zoom", "rotation": "degrees"}.get(name, "color")
    }
    assert all(getattr(found.change, field) == getattr(same.change, field) for field in fixed)
    if name in ("color_jitter", "hue"):
        assert torch.equal(found.targets.boxes, same.targets.boxes)
        assert torch.equal(found.targets.masks, same.targets.masks)


def test_a_rotation_is_one_of_the_image_not_of_the_square():
    """A thin bar in an image twice as wide as high keeps its length, measured in the image's own pixels."""
    size_hw = (200, 400)
    mask = np.zeros(size_hw, bool)
    mask[98:102, 120:280] = True
    record = ImageRecord(
        0, "a.png", None, 400, 200, (Annotation(0, "bar", (120, 98, 160, 4), encode_rle(mask), False),)
    )
    image = np.repeat(mask[..., None] * np.uint8(250), 3, 2)
    asked = [Prompt("bar", record.annotations)]
    several = (changed(image, record, AugmentationConfig(rotation=45), seed, asked) for seed in range(20))
    found = next(one for one in several if abs(one.change.degrees) > 25)
    x0, y0, x1, y1 = (cxcywh_to_xyxy(found.targets.boxes)[0] * torch.tensor([400, 200, 400, 200])).tolist()
    assert np.hypot(x1 - x0, y1 - y0) == pytest.approx(160, abs=8)
    assert np.degrees(np.arctan2(y1 - y0, x1 - x0)) == pytest.approx(abs(found.change.degrees), abs=3)


def test_changes_are_drawn_over_the_whole_range():
    rng = np.random.default_rng(0)
    drawn_ones = [draw_change(ALL, rng) for _ in range(300)]
    for values, low, high in (
        ([one.scale for one in drawn_ones], 0.4, 1),
        ([one.zoom for one in drawn_ones], 0.4, 1),
        ([one.degrees for one in drawn_ones], -30, 30),
    ):
        assert low <= min(values) < low + 0.05 * (high - low) and high - 0.05 * (high - low) < max(values) <= high
    assert draw_change(AugmentationConfig(), rng) == draw_change(AugmentationConfig(), rng)


def test_an_image_without_objects_is_changed_too():
    image, record = drawn((90, 120), [])
    for seed in range(10):
        found = changed(image, record, ALL, seed, [Prompt("cat", ())])
        assert found.targets.counts.tolist() == [0] and found.targets.masks is None
