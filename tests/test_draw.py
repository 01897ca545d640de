"""Overlays change what they should and nothing else; colors are stable and far apart."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from sam3_lora.draw import DrawObject, category_color, category_colors, overlay
from tests.factories import ellipse

SIZE_HW = (120, 160)


@pytest.fixture
def image() -> np.ndarray:
    return np.full((*SIZE_HW, 3), 128, np.uint8)


@pytest.fixture
def thing() -> DrawObject:
    mask = ellipse(SIZE_HW, (80, 70), (30, 20))
    return DrawObject("pothole", category_color("pothole"), mask, (50, 50, 110, 90), 0.87)


def test_image_is_not_changed_in_place(image, thing):
    drawn = overlay(image, [thing])
    assert (image == 128).all()
    assert drawn.shape == image.shape and drawn.dtype == np.uint8


def test_nothing_to_draw_leaves_the_image(image, thing):
    np.testing.assert_array_equal(overlay(image, []), image)
    np.testing.assert_array_equal(overlay(image, [thing], masks=False, boxes=False, labels=False), image)


def test_opacity_mixes_the_color_in(image, thing):
    for opacity in (0.0, 0.45, 1.0):
        drawn = overlay(image, [thing], boxes=False, labels=False, opacity=opacity)
        expected = 128 + (np.array(thing.color) - 128) * opacity
        np.testing.assert_allclose(drawn[70, 80], expected, atol=1)
        np.testing.assert_array_equal(drawn[5, 5], image[5, 5])


def test_box_is_an_outline(image, thing):
    drawn = overlay(image, [thing], masks=False, labels=False)
    assert tuple(drawn[50, 80]) == tuple(drawn[70, 50]) == thing.color
    assert tuple(drawn[70, 80]) == (128, 128, 128)


def test_label_stands_above_its_box_and_stays_in_the_image(image, thing):
    drawn = overlay(image, [thing], masks=False, boxes=False)
    rows = np.flatnonzero((drawn != image).any(axis=(1, 2)))
    assert rows.min() >= 25 and rows.max() <= 50
    at_edge = DrawObject("a rather long name of a category", thing.color, None, (155, 0, 160, 4))
    assert (overlay(image, [at_edge], boxes=False) != image).any(axis=2).sum() > 500


def test_labels_of_neighbors_do_not_cover_each_other(image):
    near = [DrawObject("pothole", (255, 0, 0), None, (60 + i, 60, 100, 90 - i)) for i in range(2)]
    drawn = overlay(image, near, boxes=False)
    alone = overlay(image, near[:1], boxes=False)
    painted = (drawn != image).any(axis=2).sum()
    assert painted >= 1.9 * (alone != image).any(axis=2).sum()


def test_score_is_written(image, thing):
    without = DrawObject(thing.label, thing.color, None, thing.box_xyxy)
    changed = [
        (overlay(image, [item], masks=False, boxes=False) != image).any(axis=2).sum() for item in (thing, without)
    ]
    assert changed[0] > changed[1]


@pytest.mark.parametrize("size_hw", [(1, 1), (8, 300), (300, 8), (2000, 1500)])
def test_any_size_of_image_and_boxes_that_leave_it(size_hw):
    image = np.zeros((*size_hw, 3), np.uint8)
    objects = [
        DrawObject("crack", (200, 60, 40), np.ones(size_hw, bool), (-50, -50, 5000, 5000), 1.0),
        DrawObject("empty", (20, 160, 40), np.zeros(size_hw, bool), None),
    ]
    assert overlay(image, objects).shape == image.shape


def test_color_depends_on_the_phrase_alone():
    assert category_color("Paint-Marking") == category_color(" paint  marking") == category_color("paint_marking")


def test_colors_of_the_demo_categories_are_far_apart():
    colors = [np.array(category_color(name)) for name in ("crack", "pothole", "joint", "paint marking")]
    for a, b in itertools.combinations(colors, 2):
        assert np.linalg.norm(a - b) > 100


def test_many_names_give_many_colors_all_visible_on_black_and_white():
    colors = {category_color(f"category {number}") for number in range(500)}
    assert len(colors) >= 35
    for color in colors:
        assert 60 < np.dot(color, (0.30, 0.59, 0.11)) < 225


def test_categories_of_one_dataset_do_not_look_alike():
    names = tuple(f"category {number}" for number in range(40))
    for count in (2, 6, 12, 40):
        colors = category_colors(names[:count])
        assert len(set(colors.values())) == count
        if count <= 12:
            distances = [np.linalg.norm(np.subtract(a, b)) for a, b in itertools.combinations(colors.values(), 2)]
            assert min(distances) > 40


def test_a_dataset_keeps_its_colors_when_categories_are_added():
    names = tuple(f"category {number}" for number in range(20))
    few, more = category_colors(names[:8]), category_colors(names)
    assert {name: more[name] for name in few} == few
    assert category_colors(("Paint-Marking", "paint marking", "crack")) == {
        "Paint-Marking": category_color("paint marking"),
        "paint marking": category_color("paint marking"),
        "crack": category_color("crack"),
    }


def test_more_categories_than_colors_still_have_one_each():
    names = tuple(f"category {number}" for number in range(100))
    assert set(category_colors(names)) == set(names)


def test_an_outline_leaves_the_object_free_and_dashes_draw_less_of_it(image, thing):
    drawn = {
        style: (overlay(image, [replace(thing, style=style)], labels=False) != image).any(axis=2)
        for style in ("filled", "outline", "dashed")
    }
    assert drawn["filled"][70, 80] and not drawn["outline"][70, 80]
    assert drawn["filled"].sum() > drawn["outline"].sum() > drawn["dashed"].sum() > 0
    assert not drawn["outline"][50, 60], "no box"
