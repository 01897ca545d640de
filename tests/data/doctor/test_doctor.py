"""The examination across splits, of hostile files, its statistics and its report."""

from __future__ import annotations

import copy
import json
import struct

import numpy as np
import pytest
from PIL import Image

from sam3_lora.data.dataset import open_dataset
from sam3_lora.data.doctor import examine, image_probe
from sam3_lora.data.findings.titles import title_of
from sam3_lora.data.images import load_image
from sam3_lora.errors import DataError
from tests.data.doctor.helpers import (
    HEIGHT,
    WIDTH,
    by_kind,
    examined,
    file_of,
    noise,
    png_that_claims,
    renamed,
    saved,
    write_other,
)
from tests.factories import SIZE_HW, coco, kinds, write_split


def test_splits_in_capitals_are_examined_alike(tmp_path):
    for seed, name in enumerate(("Train", "Test")):
        write_other(tmp_path / name, coco(images=20, objects=2, seed=seed), seed)
    (tmp_path / "Test" / "1_003.png").write_bytes((tmp_path / "Train" / "0_001.png").read_bytes())
    (finding,) = examine(open_dataset(tmp_path)).findings
    assert (finding.kind, finding.split, finding.severity) == ("leaked-images", "Test", "error")


def test_images_in_two_splits(tmp_path):
    for seed, name in enumerate(("train", "valid", "valid-mini")):
        write_other(tmp_path / name, coco(images=20, objects=2, seed=seed), seed)
    copied = {"valid/1_003.png": "train/0_001.png", "valid-mini/2_000.png": "valid/1_005.png"}
    for late, early in copied.items():
        (tmp_path / late).write_bytes((tmp_path / early).read_bytes())
    smooth = Image.fromarray(noise((6, 8))).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "train" / "0_004.png")
    smooth.save(tmp_path / "valid" / "1_007.png", "JPEG")
    names = {"train/0_010": "photo_png", "valid/1_011": "photo_png"}  # two of Roboflow's versions of one photograph
    names |= {"train/0_012": "image_0_jpg", "valid/1_013": "image_0_jpg"}  # two photographs of one name
    for name, origin in names.items():
        split, _, stem = name.partition("/")
        json_path = tmp_path / split / "_annotations.coco.json"
        json_path.write_text(json_path.read_text().replace(f"{stem}.png", f"{origin}.rf.{stem}.png"))
        (tmp_path / f"{name}.png").rename(tmp_path / split / f"{origin}.rf.{stem}.png")
    version = Image.fromarray(noise((6, 8), seed=3)).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    version.save(tmp_path / "train" / "photo_png.rf.0_010.png")
    version.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "valid" / "photo_png.rf.1_011.png")
    report = examine(open_dataset(tmp_path))
    leaks = {finding.split: finding for finding in report.findings if finding.kind == "leaked-images"}
    assert leaks["valid"].image_names == ("1_003.png",) and leaks["valid"].severity == "error"
    assert leaks["valid-mini"].image_names == ("2_000.png",) and leaks["valid-mini"].severity == "warning"
    assert "'1_005.png' in 'valid'" in str(leaks["valid-mini"].locations[0])
    similar = [finding for finding in report.findings if finding.kind == "leaked-similar"]
    assert [(finding.split, finding.image_names) for finding in similar] == [
        ("valid", ("photo_png.rf.1_011.png", "1_007.png"))
    ]


def test_a_category_that_is_only_measured(tmp_path, sound):
    data = copy.deepcopy(sound)
    data["categories"].append({"id": 9, "name": "stain"})
    write_split(tmp_path / "train", data)
    other = coco(images=4, seed=1)
    other["categories"].append({"id": 9, "name": "stain"})
    other["annotations"][0]["category_id"] = 9
    write_other(tmp_path / "valid", other, seed=1)
    report = examine(open_dataset(tmp_path))
    assert kinds(report) == ["untrained-category"]
    assert "'stain', 1 object elsewhere" in report.findings[0].message


@pytest.mark.parametrize("name", ["CRACK", "crack ", "Crack", "  crack", "_crack-"])
def test_a_category_in_other_letters_is_measured_and_learned(tmp_path, sound, name):
    write_split(tmp_path / "train", sound)
    other = coco(images=4, seed=1)
    other["categories"][0]["name"] = name
    write_other(tmp_path / "valid", other, seed=1)
    report = examine(open_dataset(tmp_path))
    assert kinds(report) == ["same-phrase"]


def test_rare_spellings_of_one_phrase_are_counted_together(tmp_path, sound):
    data = copy.deepcopy(sound)
    data["categories"].append({"id": 9, "name": "CRACK"})
    cracks = [entry for entry in data["annotations"] if entry["category_id"] == 1]
    for entry in cracks[:2]:
        entry["category_id"] = 9
    write_split(tmp_path / "train", data)
    assert kinds(examine(open_dataset(tmp_path))) == ["same-phrase"]


def test_all_images_are_looked_into_not_only_those_of_the_probe(tmp_path):
    data = coco(images=80, objects=2)
    train = write_split(tmp_path / "train", data)
    for entry in data["images"][:75]:
        (train / entry["file_name"]).write_bytes(b"no image")
    Image.fromarray(noise((9, 9))).save(train / data["images"][-1]["file_name"])
    dataset = open_dataset(tmp_path)
    assert max(finding.count for finding in dataset.findings) < 75
    findings = by_kind(examine(dataset))
    assert findings.keys() == {"image-unreadable", "size-mismatch"}
    assert findings["image-unreadable"].count == 75 == len(findings["image-unreadable"].image_names)
    assert findings["image-unreadable"].facts["probed"] == 81
    assert findings["size-mismatch"].count == 1


def test_two_cracks_that_cross_each_other_in_one_box_are_two(tmp_path, sound):
    def change(data, folder):
        entry = data["annotations"][0]
        for number, points in enumerate(([5, 5, 8, 5, 40, 40, 37, 40], [37, 5, 40, 5, 8, 40, 5, 40])):
            crack = {"id": 900 + number, "bbox": [5, 5, 35, 35], "segmentation": [points]}
            data["annotations"].append(entry | crack)

    assert "object-twice" not in kinds(examined(tmp_path, sound, change))


def test_a_color_mode_that_cannot_be_read_is_no_damage(tmp_path, sound):
    report = examined(tmp_path, sound, saved(Image.merge("LAB", Image.fromarray(noise()).split()), "TIFF"))
    assert kinds(report) == ["image-unreadable"] and "LAB" in report.findings[0].message
    with pytest.raises(DataError, match="LAB.*RGB"):
        load_image(open_dataset(tmp_path).split("train").images[0])


def test_missing_images_and_crowds_are_passed_over(tmp_path, sound):
    def change(data, folder):
        file_of(data, folder, 3).unlink()
        data["annotations"][0] |= {"iscrowd": 1, "bbox": [0, 0, 1.5, 1.5]}

    report = examined(tmp_path, sound, change)
    assert kinds(report) == ["image-missing", "crowds"]
    assert report.statistics.num_objects == 39


HOSTILE = {
    "no image": b"no image",
    "empty": b"",
    "header only": png_that_claims(100, 100)[:33],
    "bomb": png_that_claims(200_000, 200_000),
    "no rows": png_that_claims(0, 0),
    "gif of nothing": b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0) + b";",
    "tiff that points nowhere": b"II*\0" + struct.pack("<I", 2**31),
    "webp that lies": b"RIFF\xff\xff\xff\x7fWEBPVP8 " + b"\xff" * 40,
    "text that Pillow calls a picture": b"P6 64 48 255\n",
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_become_findings(tmp_path, sound, content):
    report = examined(tmp_path, sound, lambda data, folder: file_of(data, folder).write_bytes(content))
    assert len(report.findings) == 1
    assert report.findings[0].kind in ("image-unreadable", "image-truncated", "image-gigantic")
    assert report.findings[0].severity == "error"
    assert report.findings[0].image_names == ("0_000.png",)


def test_any_bytes_of_an_image_may_be_wrong(tmp_path):
    from sam3_lora.data.doctor.image_probe import probe

    rng = np.random.default_rng(0)
    picture = Image.fromarray(noise((40, 40)))
    for format in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        path = tmp_path / "image"
        picture.save(path, format)
        sound_bytes = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):
            damaged = sound_bytes.copy()
            damaged[rng.integers(0, min(len(damaged), 400), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(damaged[: rng.integers(1, 2 * len(damaged))].tobytes())
            found = probe(path)
            assert found.problems or found.thumb is not None


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(noise((40, 40))).save(path)
    first = image_probe.probe(path)
    read = []
    monkeypatch.setattr(image_probe, "_probe", lambda path: read.append(path) or image_probe.ImageProbe())
    assert image_probe.probe(path) is first and not read
    Image.fromarray(noise((50, 40))).save(path)
    for times in (1, 2):  # what cannot be read is not kept
        assert image_probe.probe(path) is not first and len(read) == times


def test_progress_and_cancelling(tmp_path, sound):
    write_split(tmp_path / "train", coco(images=150, objects=1))
    dataset = open_dataset(tmp_path)
    told: list[tuple[float, str]] = []
    report = examine(dataset, lambda share, what: told.append((share, what)), lambda: len(told) > 1)
    shares = [share for share, _ in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1
    assert 0 < report.looked_at < report.images == 151
    assert report.statistics.images == {"train": report.looked_at}
    assert "Cancelled after" in report.to_markdown()


def test_statistics(tmp_path):
    data = coco(images=1, objects=1, empty_images=2, kinds=("box",))
    data["annotations"][0]["bbox"] = [0, 0, WIDTH / 2, HEIGHT / 4]
    write_split(tmp_path / "train", data)
    statistics = examine(open_dataset(tmp_path)).statistics
    assert statistics.images == {"train": 3}
    assert statistics.objects_per_category == {"train": {"crack": 1, "pothole": 0, "joint": 0}}
    assert statistics.objects_per_image == {0: 2, 1: 1}
    assert statistics.image_sizes == {(WIDTH, HEIGHT): 3}
    heat = np.array(statistics.heat_map)
    assert heat.shape == (24, 24) and (heat[:6, :12] == 1).all() and heat.sum() == 6 * 12
    for histogram, value in ((statistics.object_shares, 1 / 8), (statistics.aspect_ratios, 32 / 12)):
        place = histogram.counts.index(1)
        assert sum(histogram.counts) == 1 and histogram.edges[place] <= value < histogram.edges[place + 1]
        assert histogram.median == pytest.approx(value, rel=1e-3)


def test_the_share_of_a_mask_is_that_of_its_pixels(tmp_path, sound):
    data = coco(images=1, objects=3, empty_images=0)
    write_split(tmp_path / "train", data)
    dataset = open_dataset(tmp_path)
    from sam3_lora.data.doctor.objects import shape_of
    from sam3_lora.masks import decode_segmentation, mask_to_box_xyxy

    for item in dataset.split("train").images[0].annotations:
        mask = decode_segmentation(item.segmentation, SIZE_HW)
        shape = shape_of(item.segmentation, SIZE_HW)
        assert (shape.area, shape.box_xyxy) == (mask.sum(), mask_to_box_xyxy(mask))


def test_the_report_as_json_and_markdown(tmp_path, sound):
    def change(data, folder):
        data["categories"][0]["name"] = "a|b_2 `<b>`"
        for index in range(12):
            file_of(data, folder, index).write_bytes(b"")

    report = examined(tmp_path, sound, change)
    content = json.loads(report.to_json())
    assert [finding["kind"] for finding in content["findings"]] == ["image-unreadable", "phrase-code"]
    assert len(content["findings"][0]["image_names"]) == len(content["findings"][0]["locations"]) == 12
    assert content["splits"]["train"]["objects"] == 40 == sum(content["splits"]["train"]["categories"].values())
    assert sum(content["statistics"]["object_shares"]["counts"]) == 40
    page = report.to_markdown()
    assert f"### Error: {title_of('image-unreadable')} (train)" in page and "- and 2 more" in page
    assert "a\\|b\\_2 \\`\\<b\\>\\`" in page


def test_a_dataset_without_images(tmp_path):
    write_split(tmp_path / "train", {"images": [], "annotations": [], "categories": []})
    report = examine(open_dataset(tmp_path))
    assert kinds(report) == ["no-images"] and report.images == 0
    assert json.loads(report.to_json())["statistics"]["object_shares"]["median"] is None
    assert "## Findings" in report.to_markdown()


def test_the_command_line_tells_the_same(tmp_path, sound):
    from typer.testing import CliRunner

    from sam3_lora.cli.app import app
    from sam3_lora.errors import DataError, Sam3LoraError

    def call(*arguments):
        result = CliRunner().invoke(app, ["inspect", str(tmp_path), *map(str, arguments)])
        if result.exception is not None:
            raise result.exception
        return result.stdout

    report = examined(tmp_path, sound, renamed("leftmost wheel"))
    assert json.loads(call("--deep", "--json")) == json.loads(report.to_json())
    text = call("--report", tmp_path / "report.md")
    assert report.findings[0].message in text and "Better phrase for 'leftmost wheel': 'wheel'." in text
    assert (tmp_path / "report.md").read_text() == report.to_markdown()
    call("--report", tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text() == report.to_json()
    assert "leftmost wheel" in call() and "Better phrase" not in call()
    with pytest.raises(DataError, match="report.txt"):
        call("--report", tmp_path / "report.txt")
    with pytest.raises(Sam3LoraError, match="cannot be written"):
        call("--report", tmp_path / "nowhere" / "report.md")
