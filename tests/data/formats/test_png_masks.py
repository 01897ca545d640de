"""Semantic masks become the COCO split that a person would have drawn; nothing is left out in silence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sam3_lora.cli.app import app
from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.formats.png_masks import convert_masks
from sam3_lora.data.images import load_image
from sam3_lora.errors import DataError
from sam3_lora.masks import decode_segmentation

VALUES = np.zeros((30, 40), np.uint8)
VALUES[2:8, 3:12] = 1  # two regions of class 1
VALUES[20:28, 3:9] = 1
VALUES[5:25, 20:38] = 2
CLASSES = {"1": "crack", "2": "pothole"}
COLORS = {"#ff0000": "crack", "00ff00": "pothole"}


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path, Path]:
    """images, masks (as gray values) and a place for the split."""
    images, masks = tmp_path / "images", tmp_path / "masks"
    for folder in (images, masks):
        (folder / "site").mkdir(parents=True)
    for name in ("a", "site/b"):
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)).save(images / f"{name}.jpg")
        Image.fromarray(VALUES).save(masks / f"{name}.png")
    return images, masks, tmp_path / "set" / "train"


def save_as(path: Path, kind: str) -> None:
    if kind == "palette":
        picture = Image.fromarray(VALUES, "L").convert("P")
        picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [9] * 759)
        picture.putdata(VALUES.ravel().tolist())
        picture.save(path)
    elif kind == "16 bits":
        Image.fromarray(VALUES.astype(np.uint16)).save(path)
    elif kind == "gray in three channels":
        Image.fromarray(np.stack([VALUES] * 3, -1)).save(path)
    else:
        Image.fromarray(np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)[VALUES]).save(path)


@pytest.mark.parametrize("kind", ["palette", "16 bits", "gray in three channels", "colors", "palette by color"])
def test_every_kind_of_mask_gives_the_same_objects(folders, kind):
    images, masks, out = folders
    for path in masks.rglob("*.png"):
        save_as(path, kind.removesuffix(" by color"))
    result = convert_masks(images, masks, out, COLORS if "color" in kind else CLASSES)
    assert dict(result.objects) == {"crack": 4, "pothole": 2} and not result.unknown and not result.skipped
    dataset = open_dataset(out.parent)
    assert dataset.findings == () and dataset.categories == ("crack", "pothole")
    for image in dataset.split("train").images:
        assert not image.missing
        for annotation in image.annotations:
            mask = decode_segmentation(annotation.segmentation, VALUES.shape)
            assert (VALUES[mask] == (1 if annotation.category == "crack" else 2)).all()
        whole = sum(decode_segmentation(item.segmentation, VALUES.shape) for item in image.annotations)
        assert (whole == (VALUES > 0)).all()


def test_one_object_per_class_if_wanted(folders):
    images, masks, out = folders
    assert dict(convert_masks(images, masks, out, CLASSES, objects="colors").objects) == {"crack": 2, "pothole": 2}


def test_small_regions_can_be_left_out(folders):
    images, masks, out = folders
    assert dict(convert_masks(images, masks, out, CLASSES, min_pixels=50).objects) == {"crack": 2, "pothole": 2}


def test_what_is_left_out_is_told(folders):
    images, masks, out = folders
    (masks / "site" / "b.png").rename(masks / "site" / "b_mask.png")
    Image.new("RGB", (40, 30)).save(images / "alone.png")
    Image.new("RGB", (40, 30)).save(images / "small.png")
    Image.new("L", (20, 30)).save(masks / "small.png")
    (images / "torn.png").write_bytes(b"no image")
    Image.new("L", (20, 30)).save(masks / "torn.png")
    result = convert_masks(images, masks, out, {"1": "crack"})
    assert result.images == 2 and dict(result.unknown) == {"2": 2}
    assert set(result.skipped) == {"alone.png", "small.png", "torn.png"}
    assert result.skipped["small.png"] == "its mask is 20 x 30, not 40 x 30"


@pytest.mark.parametrize(
    ("classes", "match"),
    [({}, "at least one class"), ({"1": ""}, "name of words"), ({"red": "crack"}, "by values or by colors")],
)
def test_classes_that_are_none_are_told(folders, classes, match):
    with pytest.raises(DataError, match=match):
        convert_masks(*folders, classes)


def test_masks_of_another_kind_are_told_and_nothing_is_left_behind(folders):
    images, masks, out = folders
    for path in masks.rglob("*.png"):
        save_as(path, "colors")
    with pytest.raises(DataError, match="named by value"):
        convert_masks(images, masks, out, CLASSES)
    assert not out.exists() and list(out.parent.iterdir()) == []
    for path in masks.rglob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match="no names match"):
        convert_masks(images, masks, out, CLASSES)


def test_nothing_is_written_over(folders):
    images, masks, out = folders
    out.mkdir(parents=True)
    with pytest.raises(DataError, match="exists already"):
        convert_masks(images, masks, out, CLASSES)


def test_a_folder_beside_the_new_one_stays(folders):
    images, masks, out = folders
    mine = out.with_name(f"{out.name}.partial")
    mine.mkdir(parents=True)
    (mine / "notes.txt").write_text("mine")
    convert_masks(images, masks, out, CLASSES)
    assert (mine / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in out.parent.iterdir()) == sorted([out.name, mine.name])


def test_the_command_says_what_it_wrote(folders):
    images, masks, out = folders
    command = ["convert-masks", str(images), str(masks), str(out), "--class", "1=crack", "--objects", "components"]
    printed = CliRunner().invoke(app, command).stdout
    assert "2 images, 4 objects (crack 4)" in printed and "value 2 in 2 masks has no class" in printed


def test_a_mask_drawn_on_a_photograph_as_viewers_turn_it_fits(folders):
    images, masks, out = folders
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 40)).save(images / "a.jpg", exif=exif)
    result = convert_masks(images, masks, out, CLASSES)
    assert not result.skipped
    image = next(image for image in open_dataset(out.parent).split("train").images if image.file_name == "a.jpg")
    assert (image.width, image.height) == (40, 30) and load_image(image).shape[:2] == (30, 40)


def test_masks_may_lie_beside_the_images(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "im0.png")
    Image.fromarray(VALUES).save(tmp_path / "im0_mask.png")
    result = convert_masks(tmp_path, tmp_path, tmp_path / "out", CLASSES)
    assert result.images == 1 and not result.skipped


def test_classes_that_give_no_object_are_refused(folders):
    images, masks, out = folders
    with pytest.raises(DataError, match="values 1, 2, but none of 7"):
        convert_masks(images, masks, out, {"7": "x"})
    assert not out.exists()
    command = ["convert-masks", str(images), str(masks), str(out), "--class", "1=crack", "--class", "1=hole"]
    assert "named twice" in str(CliRunner().invoke(app, command).exception) and not out.exists()


def test_a_folder_that_is_not_there_is_told(folders):
    images, masks, out = folders
    with pytest.raises(DataError, match="There is no folder .*pictures"):
        convert_masks(images / "pictures", masks, out, CLASSES)


SCENE = np.zeros((80, 120), np.uint8)  # a disc of class 1 and a bar of class 2, with a gap between them
SCENE[(np.indices(SCENE.shape) - [[[40]], [[30]]]).__pow__(2).sum(0) < 20**2] = 1
SCENE[10:70, 70:100] = 2
NAMED = {"gray": {"127": "crack", "255": "pothole"}, "colors": COLORS}
LEVELS = {
    "gray": np.array([0, 127, 255], np.uint8),
    "colors": np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8),
}


def blurred(picture: Image.Image, how: str) -> Image.Image:
    if how.startswith("jpeg"):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(how.removeprefix("jpeg")))
        return Image.open(buffer).convert(picture.mode)
    # As a labeling tool draws a smooth edge: large, then scaled down.
    return picture.resize((480, 320), Image.Resampling.NEAREST).resize((110, 76), Image.Resampling.BILINEAR)


def convert_scene(folders, picture: Image.Image, classes, suffix: str = "png", **saved):
    """The result for one image with this mask, and its classes as drawn in the split (H, W): 0, 1 or 2."""
    images, masks, out = folders
    for path in (*images.rglob("*.jpg"), *masks.rglob("*.png")):
        path.unlink()
    Image.new("RGB", picture.size).save(images / "a.jpg")
    picture.save(masks / f"a.{suffix}", **saved)
    result = convert_masks(images, masks, out, classes, min_pixels=16)
    (image,) = open_dataset(out.parent).split("train").images
    drawn = np.zeros(picture.size[::-1], np.uint8)
    for annotation in image.annotations:
        mask = decode_segmentation(annotation.segmentation, drawn.shape)
        drawn[mask] = 1 if annotation.category == "crack" else 2
    return result, drawn


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("how", ["jpeg50", "jpeg75", "jpeg95", "smooth"])
def test_noise_and_smooth_edges_go_to_the_nearest_class(folders, kind, how):
    picture = blurred(Image.fromarray(LEVELS[kind][SCENE]), how)
    exact = SCENE if how != "smooth" else np.asarray(Image.fromarray(SCENE).resize(picture.size, 0))
    result, drawn = convert_scene(folders, picture, NAMED[kind])
    assert dict(result.objects) == {"crack": 1, "pothole": 1} and not result.unknown and not result.skipped
    assert result.noisy == 1 and result.noisy_pixels > 100
    assert (drawn != exact).mean() < (0.02 if how == "smooth" else 0.005), "edges alone may differ"


def test_masks_may_be_jpeg(folders):
    gray, drawn = convert_scene(
        folders, Image.fromarray(np.stack([LEVELS["gray"][SCENE]] * 3, -1)), NAMED["gray"], suffix="jpg", quality=80
    )
    assert dict(gray.objects) == {"crack": 1, "pothole": 1} and (drawn != SCENE).mean() < 0.005


@pytest.mark.parametrize("how", ["jpeg75", "clean"])
def test_an_area_without_a_class_is_told_and_goes_to_none(folders, how):
    picture = Image.fromarray(LEVELS["gray"][SCENE])
    picture = blurred(picture, how) if how != "clean" else picture
    result, drawn = convert_scene(folders, picture, {"255": "pothole"})
    assert dict(result.objects) == {"pothole": 1} and any(abs(int(value) - 127) < 4 for value in result.unknown)
    assert (drawn[SCENE == 1] == 0).mean() > 0.98


def test_a_thin_line_survives_the_noise(folders):
    lines = np.zeros((80, 120), np.uint8)
    lines[np.arange(80), np.arange(80)] = lines[np.arange(79), np.arange(79) + 1] = 2
    lines[5:25, 95:115] = 1
    _, drawn = convert_scene(folders, blurred(Image.fromarray(LEVELS["gray"][lines]), "jpeg90"), NAMED["gray"])
    assert (drawn[lines == 2] == 2).mean() > 0.95


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_noise_between_classes_close_to_each_other_is_refused(folders, suffix):
    noisy = blurred(Image.fromarray(np.array([0, 255, 255], np.uint8)[SCENE]), "jpeg75")
    with pytest.raises(DataError, match=r"noisy \(\d+ different values, most often 0, 255.*only 1 apart"):
        convert_scene(folders, noisy, CLASSES, suffix)


@pytest.mark.parametrize("bands", [1, 3])
def test_a_mask_in_the_transparency_is_told(folders, bands):
    alpha = LEVELS["gray"][SCENE]
    with pytest.raises(DataError, match="transparency"):
        convert_scene(folders, Image.fromarray(np.dstack([np.zeros_like(alpha)] * bands + [alpha])), NAMED["gray"])


def test_photographs_are_no_masks(folders):
    coarse = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 12), np.uint8))
    with pytest.raises(DataError, match="like a photograph"):
        convert_scene(folders, coarse.resize((120, 80), Image.Resampling.BICUBIC), {"255": "pothole"})


def test_thin_and_small_regions_of_many_classes_are_no_noise(folders):
    many = np.kron(np.arange(1, 25, dtype=np.uint8).reshape(4, 6), np.ones((20, 20), np.uint8))
    for row in range(1, 80, 8):
        many[row, :60] = 100 + row
    result, _ = convert_scene(folders, Image.fromarray(many), {"1": "crack"})
    assert dict(result.objects) == {"crack": 4} and not result.noisy and len(result.unknown) == 33


def test_a_photograph_of_the_same_name_in_the_same_folder_is_no_mask(tmp_path):
    for name in ("a", "b"):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{name}.jpg")
    Image.fromarray(VALUES * 100).save(tmp_path / "a.png")
    Image.fromarray(VALUES * 100).save(tmp_path / "b_mask.jpg", quality=95)
    result = convert_masks(tmp_path, tmp_path, tmp_path / "out", {"100": "crack", "200": "pothole"}, min_pixels=9)
    assert result.images == 2 and dict(result.objects) == {"crack": 4, "pothole": 2} and not result.skipped
