"""Every fault that an examination can find, each in a dataset that has exactly this one; nothing crashes it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.findings import messages_doctor as messages
from sam3_lora.masks import encode_rle
from tests.data.doctor.helpers import (
    HEIGHT,
    WIDTH,
    Change,
    examined,
    file_of,
    noise,
    orientation,
    png_that_claims,
    renamed,
    saved,
)
from tests.factories import kinds


def cut_off(format: str) -> Change:
    def change(data, folder):
        path = file_of(data, folder)
        Image.fromarray(noise((200, 200))).save(path, format)
        data["images"][0] |= {"width": 200, "height": 200}
        data["annotations"][1].pop("segmentation")  # run lengths of the old size
        path.write_bytes(path.read_bytes()[:-3000])

    return change


def gigantic(data, folder):
    file_of(data, folder, -1).write_bytes(png_that_claims(9000, 9000))
    data["images"][-1] |= {"width": 9000, "height": 9000}


def frames(data, folder):
    pictures = [Image.fromarray(noise(seed=seed)) for seed in (1, 2)]
    pictures[0].save(file_of(data, folder), "PNG", save_all=True, append_images=pictures[1:])


def transparent(data, folder):
    pixels = noise(channels=4)
    Image.fromarray(pixels, "RGBA").save(file_of(data, folder))


def twice(data, folder):
    file_of(data, folder, 1).write_bytes(file_of(data, folder).read_bytes())


def saved_again(data, folder):
    big = Image.fromarray(noise((6, 8))).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    big.save(file_of(data, folder))
    big.save(file_of(data, folder, 1), "JPEG", quality=80)


def first(**values) -> Change:
    """Changes the first annotation (a polygon)."""
    return lambda data, _: data["annotations"][0].update(values)


def polygon(*points: float, **values) -> Change:
    return first(segmentation=[list(points)], **values)


def in_a_large_image(mask_box: tuple[int, int, int, int], size: int) -> Change:
    """An object, run lengths, in an empty image of size x size."""

    def change(data, folder):
        x, y, w, h = mask_box
        mask = np.zeros((size, size), bool)
        mask[y : y + h, x : x + w] = True
        image = data["images"][-1] | {"width": size, "height": size}
        data["images"][-1] = image
        Image.new("L", (size, size)).save(file_of(data, folder, -1))
        entry = {"id": 500, "image_id": image["id"], "category_id": 1, "bbox": list(mask_box), "iscrowd": 0}
        data["annotations"].append(entry | {"segmentation": encode_rle(mask)})

    return change


def a_box_in_a_large_image(data, folder):
    in_a_large_image((1000, 1000, 3, 2), 4000)(data, folder)
    del data["annotations"][-1]["segmentation"]


def crowded(data, _):
    entry = data["annotations"][0]
    for number in range(1000, 1200):
        box = [number % 20, 2 * (number // 20 % 10), 8, 8]
        data["annotations"].append({"id": number, "image_id": entry["image_id"], "category_id": 1, "bbox": box})
    for category in (2, 3):  # as frequent, each in other images
        for number in range(100):
            image = data["images"][1 + number % 15]["id"]
            box = [5 * (number // 15), category, 9, 9]
            data["annotations"].append({"id": 2000 + 100 * category + number, "image_id": image, "bbox": box})
            data["annotations"][-1] |= {"category_id": category, "iscrowd": 0}


def box_again(data, _):
    entry = data["annotations"][0]
    x, y, w, h = entry["bbox"]
    data["annotations"].append({**entry, "id": 900, "bbox": [x, y, w, h - 0.5]})


def rare(data, _):
    data["categories"].append({"id": 9, "name": "stain"})
    data["annotations"][0]["category_id"] = 9


def unbalanced(data, _):
    for number in range(14 * 21 + 30):
        image = data["images"][number % 20]["id"]
        box = [2 * (number // 20), 10, 9, 9]
        category = 2 if number < 30 else 1
        data["annotations"].append({"id": 1000 + number, "image_id": image, "category_id": category, "bbox": box})


FAULTS: list[tuple[str, Change]] = [
    ("image-truncated", cut_off("PNG")),
    ("image-truncated", cut_off("JPEG")),
    ("image-truncated", cut_off("BMP")),
    ("image-gigantic", gigantic),
    ("image-32-bit", saved(Image.fromarray(noise(channels=1).astype(np.int32) * 200), "TIFF")),
    ("image-32-bit", saved(Image.fromarray(noise(channels=1).astype(np.float32) / 255), "TIFF")),
    ("image-16-bit", saved(Image.fromarray(noise(channels=1).astype(np.uint16) * 200))),
    ("image-16-bit", saved(Image.fromarray(noise(channels=1).astype(np.uint16) * 200), "TIFF")),
    ("image-animated", frames),
    ("image-rotated", orientation(6)),
    ("image-rotated", orientation(8, swapped=True)),
    ("image-cmyk", saved(Image.fromarray(noise(channels=4), "CMYK"), "JPEG")),
    ("image-transparent", transparent),
    ("image-palette", saved(Image.fromarray(noise()).quantize(64))),
    ("identical-images", twice),
    ("similar-images", saved_again),
    ("empty-mask", first(segmentation={"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]})),
    ("box-mask-mismatch", first(bbox=[2, 2, 8, 8])),
    ("box-mask-mismatch", first(bbox=[0, 0, WIDTH, HEIGHT])),
    ("tiny-object", polygon(10, 10, 12, 10, 12, 12, 10, 12, bbox=[10, 10, 2, 2])),
    ("polygon-crosses-itself", polygon(10, 10, 30, 30, 30, 10, 10, 30, bbox=[10, 10, 20, 20])),
    ("polygon-short-part", lambda data, _: data["annotations"][0]["segmentation"].append([1, 1, 5, 5])),
    ("object-vanishes", in_a_large_image((1000, 1000, 2, 3), 3100)),
    ("object-vanishes", a_box_in_a_large_image),
    ("small-object", in_a_large_image((1001, 1001, 4, 5), 2100)),
    ("too-many-objects", crowded),
    ("object-twice", box_again),
    ("phrase-code", renamed("class_2")),
    ("phrase-code", renamed("D00")),
    ("phrase-code", renamed("pothole2", index=1)),
    ("phrase-not-english", renamed("坑洞")),
    ("phrase-not-english", renamed("🕳️", index=1)),
    ("phrase-for-nothing", renamed("background")),
    ("phrase-for-nothing", renamed("null", index=1)),
    ("phrase-with-comma", renamed("damage, severe")),
    ("phrase-with-comma", renamed("pipe; rusty", index=1)),
    ("phrase-position", renamed("left wheel")),
    ("phrase-long", renamed("a dark hole in the asphalt with water in it")),
    ("phrase-run-together", renamed("paintMarking")),
    ("phrase-plural", renamed("Cracks", index=1)),
    ("phrase-plural", renamed("cra ck", index=1)),
    ("few-objects", rare),
    ("class-imbalance", unbalanced),
]


def test_a_sound_dataset_has_no_finding(tmp_path, sound):
    report = examined(tmp_path, sound, lambda data, folder: None)
    assert report.findings == () and report.suggestions == {}
    assert report.looked_at == report.images == 21


@pytest.mark.parametrize(("kind", "change"), FAULTS)
def test_one_fault_one_finding(tmp_path, sound, kind, change):
    report = examined(tmp_path, sound, change)
    assert kinds(report) == [kind]
    finding = report.findings[0]
    assert finding.count == 1 and len(finding.locations) == 1
    assert finding.split == ("" if kind.startswith(("phrase", "few", "class")) else "train")
    assert finding.message.endswith(".") and finding.fix.endswith(".")
    assert not re.search(r"\{\w+\}", finding.message + finding.fix)
    assert bool(finding.image_names) == (not kind.startswith(("few", "class")))


def test_every_kind_of_finding_is_tested():
    elsewhere = {"leaked-images", "leaked-similar", "untrained-category"}
    assert {kind for kind, _ in FAULTS} | elsewhere == {*messages.ERRORS, *messages.WARNINGS, *messages.INFOS}
