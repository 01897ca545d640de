"""What is said of values that are read although they are not what COCO asks for; see messages.py."""

from __future__ import annotations

_REGIONS = "{count:,} of {all_annotations:,} annotations {have} iscrowd or ignore 1"
_NOT_LEARNED = _REGIONS + ", which marks a region of many objects: {they} {are} shown, but not learned"
_LEARN = "set data.crowds_as_objects ('Learn crowd regions as objects', on the Configure page)"

_TOP_LEFT = "write bbox as [left, top, width, height]"
BOX_LAYOUTS = {  # see objects/box_layouts.py
    "as-centers": "[center x, center y, width, height]",
    "as-corners": "[left, top, right, bottom]",
    "as-rows-and-columns": "[top, left, height, width]",
    "as-corners-in-rows-and-columns": "[top, left, bottom, right]",
}
ERRORS: dict[str, tuple[str, str]] = {
    "boxes-misread": (
        "The boxes are not [left, top, width, height]: {count:,} of {probed:,} checked boxes fit their masks if "
        "they are read differently",
        _TOP_LEFT[0].upper() + _TOP_LEFT[1:] + ", or leave bbox out: it is then taken from the mask",
    ),
}
WARNINGS: dict[str, tuple[str, str]] = {
    "turned-boxes": (
        "{annotations} {have} a turned box. Where there is no mask, the turned rectangle is learned as the mask, and "
        "the upright box around it as the box. {They} {are} given as",
        "Look at them here: if the rectangles do not fit the objects, the angle is meant otherwise; then export "
        "polygons or masks",
    ),
    "crowds": (
        _NOT_LEARNED,
        "Nothing, if they are such regions; if each of them is one object, since some tools mark every brush mask so, "
        + _LEARN,
    ),
}
INFOS: dict[str, tuple[str, str]] = {
    "other-notation": (
        "{count:,} {entries} {have} values that are not written as in COCO, but whose meaning is clear; they are used",
        "Nothing, unless other tools read the file too",
    ),
}
_FIVE = "five numbers, read as [{}, width, height, {}], {}"
_CENTER, _CORNER = "center x, center y", "left, top"
_NOT_ABOVE = "since none is above 2 pi"
_LEAVES = "since as centers they would leave the image"
CAUSES = {
    "numbers-as-text": "numbers as text (in quotes)",
    "id-of-other-type": "an id as text that is a number elsewhere, or the other way round",
    "id-by-name": "the name of an image or a category instead of its id",
    "box-as-object": "a box as an object",
    "box-as-points": "a box as a list of points",
    "box-backwards": "a box drawn from right to left or upwards, with a negative width or height",
    "polygon-as-points": "polygons as points, objects or one flat list",
    "rle-as-bytes": "run lengths as Python prints bytes, b'...'",
    "rle-without-size": "run lengths without the size of the image",
    "rle-width-first": "run lengths of size [width, height] instead of [height, width], read as the box tells",
    "attributes": "attributes.rotation, in degrees clockwise about the center, as CVAT writes it",
    "rotation": "rotation, read as degrees clockwise about the center",
    "angle-degrees": "angle, read as degrees clockwise about the center",
    "angle-radians": f"angle, read as radians clockwise about the center, {_NOT_ABOVE}",
    "theta-degrees": "theta, read as degrees clockwise about the center",
    "theta-radians": f"theta, read as radians clockwise about the center, {_NOT_ABOVE}",
    "five-numbers-center-degrees": _FIVE.format(_CENTER, "degrees counter-clockwise", "as Detectron2 writes them"),
    "five-numbers-center-radians": _FIVE.format(_CENTER, "radians clockwise", f"as MMRotate does, {_NOT_ABOVE}"),
    "five-numbers-corner-degrees": _FIVE.format(_CORNER, "degrees counter-clockwise", _LEAVES),
    "five-numbers-corner-radians": _FIVE.format(_CORNER, "radians clockwise", _LEAVES),
    "corners": "the four corners of a rectangle",
    **{name: f"as {layout}" for name, layout in BOX_LAYOUTS.items()},
    "with-mask": "an angle beside a mask: the box is taken from the mask",
}
VARIANTS: dict[tuple[str, str], tuple[str | None, str | None]] = {
    ("crowds", "only"): (
        _NOT_LEARNED + ", so that nothing is left to learn of {only}",
        f"If each of them is one object, {_LEARN}; otherwise annotate single objects",
    ),
    ("crowds", "as-objects"): (
        _REGIONS + " and {are} learned as objects, as data.crowds_as_objects says",
        "Nothing, if each of them is one object",
    ),
    **{
        ("boxes-outside-image", name): (None, f"These look like {layout}: {_TOP_LEFT}")
        for name, layout in BOX_LAYOUTS.items()
    },
    ("boxes-outside-image", "as-in-coco"): (
        None,
        "The masks confirm that bbox is [left, top, width, height] in pixels: check those that extend beyond the image",
    ),
    **{
        ("boxes-normalized", name): (
            None,
            f"The masks say that these are {layout} in fractions of the image: {_TOP_LEFT} in pixels",
        )
        for name, layout in BOX_LAYOUTS.items()
    },
}
