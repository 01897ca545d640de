"""Runs the cases of a folder of field reports and tells which of them have the right outcome.

A case is a folder with a small input that a person's tool has written. Each check below is a function with the case's
name, hyphens as underscores; it gets the folder and asserts the right outcome.

    python -m scripts.field_cases FOLDER [CASE ...]
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import traceback
from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

from sam3_lora.config import Negatives
from sam3_lora.data.dataset import load_image, open_dataset
from sam3_lora.data.doctor import examine
from sam3_lora.data.findings.findings import Finding
from sam3_lora.data.formats.png_masks import convert_masks
from sam3_lora.data.prompts import phrases_for
from sam3_lora.errors import DataError

CHECKS: dict[str, Callable[[Path], None]] = {}


def case(check: Callable[[Path], None]) -> Callable[[Path], None]:
    """Registers the check of the case with the function's name."""
    CHECKS[check.__name__] = check
    return check


# Phrases that may be asked in vain


def asked(folder: Path) -> list[tuple[dict[str, bool], set[str]]]:
    """Of each image of the only split: positive phrase -> whether it is exhaustive, and all possible negatives."""
    dataset = open_dataset(folder)
    (split,) = dataset.splits.values()
    found = []
    for image in split.images:
        positives, negatives = phrases_for(image, dataset.prompt_categories, Negatives(999), random.Random(0))
        found.append(({one.phrase: one.exhaustive for one in positives}, set(negatives)))
    return found


def pairs_of_image_and_phrase(folder: Path, not_exhaustive: set[int]) -> None:
    dataset = open_dataset(folder)
    assert "SA-Co" in dataset.format
    (split,) = dataset.splits.values()
    assert split.objects_per_category() == {"pothole": 3, "manhole cover": 3, "a yellow taxi": 0}
    assert [image.annotations[0].bbox_xywh for image in split.images] == [(20, 16, 24, 20)] * 3
    found = asked(folder)
    for number, (positives, negatives) in enumerate(found):
        assert positives == {"pothole": number not in not_exhaustive, "manhole cover": True}
        assert negatives == {"a yellow taxi"}
    assert {finding.severity for finding in dataset.findings} == {"info"}


@case
def saco_text_input(folder: Path) -> None:
    pairs_of_image_and_phrase(folder, {2})


@case
def text_input_pixel_boxes(folder: Path) -> None:
    pairs_of_image_and_phrase(folder, set())


@case
def lvis_not_exhaustive(folder: Path) -> None:
    assert asked(folder) == [({"pothole": False}, {"manhole"})] * 4


@case
def supercategory_parent_as_negative(folder: Path) -> None:
    found = asked(folder)
    assert len(found) == 4 and all("pothole" in positives for positives, _ in found)
    assert not any("road damage" in negatives for _, negatives in found)


# Values of COCO files


def found(folder: Path, **options: Any) -> dict[str, Finding]:
    """The findings of examining a dataset, by kind."""
    return {finding.kind: finding for finding in examine(open_dataset(folder, **options)).findings}


def causes(finding: Finding) -> dict[str, int]:
    return {cause.name: cause.count for cause in finding.causes}


@case
def bbox_five_numbers_theta(folder: Path) -> None:
    turned = found(folder)["turned-boxes"]
    assert (turned.severity, causes(turned)) == ("warning", {"five-numbers-center-radians": 3})


@case
def boxes_center_pixels(folder: Path) -> None:
    findings = found(folder)
    assert (findings["boxes-misread"].severity, causes(findings["boxes-misread"])) == ("error", {"as-centers": 8})
    assert findings["boxes-outside-image"].variant == "as-centers"


@case
def category_names_differ_between_splits(folder: Path) -> None:
    findings = found(folder)
    assert "untrained-category" not in findings and findings["same-phrase"].severity == "info"


@case
def cvat_rotation_attribute(folder: Path) -> None:
    turned = found(folder)["turned-boxes"]
    assert (turned.severity, causes(turned)) == ("warning", {"attributes": 3})


@case
def ids_number_here_text_there(folder: Path) -> None:
    assert causes(found(folder)["other-notation"]) == {"id-of-other-type": 3}
    assert open_dataset(folder).split("train").num_objects == 3


@case
def numbers_as_strings(folder: Path) -> None:
    assert causes(found(folder)["other-notation"]) == {"numbers-as-text": 6}
    assert open_dataset(folder).split("train").num_objects == 3


@case
def polygon_as_points_and_dicts(folder: Path) -> None:
    findings = found(folder)
    assert causes(findings["other-notation"]) == {"polygon-as-points": 4} and "bad-segmentation" not in findings


@case
def rle_size_width_first(folder: Path) -> None:
    findings = found(folder)
    assert causes(findings["other-notation"]) == {"rle-width-first": 3} and "box-mask-mismatch" not in findings


@case
def iscrowd_because_rle(folder: Path) -> None:
    crowds = found(folder)["crowds"]
    assert (crowds.severity, crowds.count) == ("warning", 4)
    assert open_dataset(folder, crowds_as_objects=True).split("train").num_objects == 8


@case
def iscrowd_one_category_whole(folder: Path) -> None:
    crowds = found(folder)["crowds"]
    assert (crowds.severity, crowds.facts["only"]) == ("error", ("pothole",))
    counts = open_dataset(folder, crowds_as_objects=True).split("train").objects_per_category()
    assert counts == {"pothole": 3, "manhole cover": 3}


# YOLO


def _opened(folder: Path, objects: dict[str, int], categories: set[str], kinds: Set[str] = frozenset()) -> None:
    """Asserts objects by split, the categories that have any, and the kinds of findings."""
    dataset = open_dataset(folder)
    assert {name: split.num_objects for name, split in dataset.splits.items()} == objects
    used = set().union(*(split.images.categories_used() for split in dataset.splits.values()))
    assert used == categories, used
    found = {finding.kind for finding in dataset.findings} - {"unused-category"}
    assert found == kinds, found


@case
def cvat_yolo11_obj_names(folder: Path) -> None:
    _opened(folder, {"train": 4}, {"pothole"})


def _dark_share(folder: Path) -> float:
    """The smallest share of dark pixels in the box of an image of the training split."""
    shares = []
    for image in open_dataset(folder).split("train").images:
        x, y, w, h = map(round, image.annotations[0].bbox_xywh)
        shares.append(float((load_image(image)[y : y + h, x : x + w].mean(2) < 80).mean()))
    return min(shares)


@case
def exif3_coco(folder: Path) -> None:
    (finding,) = open_dataset(folder).findings
    assert (finding.kind, finding.severity, finding.count) == ("image-orientation-unclear", "warning", 2)
    assert _dark_share(folder) > 0.7


@case
def exif3_yolo_upside_down(folder: Path) -> None:
    assert _dark_share(folder) > 0.7


@case
def exif6_yolo_square(folder: Path) -> None:
    assert _dark_share(folder) > 0.7


@case
def yolo_jfif_avif_heic(folder: Path) -> None:
    _opened(folder, {"train": 4}, {"pothole"})


@case
def macos_dot_underscore(folder: Path) -> None:
    _opened(folder, {"train": 3}, {"pothole"})


@case
def yolo_half_beside_half_in_labels(folder: Path) -> None:
    _opened(folder, {"train": 4}, {"pothole"})


@case
def yolo_labels_beside_in_images_folder(folder: Path) -> None:
    _opened(folder, {"train": 2, "val": 2}, {"pothole"})


@case
def yolo_label_case_differs(folder: Path) -> None:
    _opened(folder, {"train": 3}, {"pothole"}, {"labels-by-similar-name"})


@case
def yolo_label_percent_encoded(folder: Path) -> None:
    _opened(folder, {"train": 2}, {"pothole"}, {"labels-by-similar-name"})


@case
def yolo_labels_flat_images_nested(folder: Path) -> None:
    _opened(folder, {"train": 4}, {"pothole"}, {"labels-by-similar-name"})


@case
def yolo_own_yaml_name(folder: Path) -> None:
    _opened(folder, {"train": 3, "val": 1}, {"pothole"})


@case
def yolo_yaml_one_folder_up_config(folder: Path) -> None:
    _opened(folder, {"train": 2, "val": 2}, {"pothole"})


@case
def yolo_pose_xy_no_kpt_shape(folder: Path) -> None:
    _opened(folder, {"train": 3}, {"pothole"}, {"keypoints-not-read"})


@case
def yolo_yaml_gbk_names(folder: Path) -> None:
    try:
        open_dataset(folder)
    except DataError as error:
        assert "UTF-8" in error.message
    else:
        raise AssertionError("opened")


# Layouts and file names


def _found_by_name(folder: Path, images: int, categories: dict[str, int]) -> None:
    dataset = open_dataset(folder)
    (split,) = dataset.splits.values()
    assert len(split.images) == images and not any(image.missing for image in split.images)
    assert split.objects_per_category() == categories
    assert [(finding.kind, finding.severity, finding.count) for finding in dataset.findings] == [
        ("image-elsewhere", "info", images)
    ]


@case
def file_name_absolute_linux(folder: Path) -> None:
    _found_by_name(folder, 3, {"pothole": 3})


@case
def file_name_with_old_folder(folder: Path) -> None:
    _found_by_name(folder, 3, {"pothole": 3})


@case
def images_in_nested_subfolders(folder: Path) -> None:
    _found_by_name(folder, 4, {"pothole": 4})


@case
def ls_images_backslash_project(folder: Path) -> None:
    _found_by_name(folder, 3, {"pothole": 3})


@case
def ls_windows_media_path(folder: Path) -> None:
    _found_by_name(folder, 3, {"pothole": 3})


def _opens(folder: Path, format: str, images: dict[str, int]) -> None:
    dataset = open_dataset(folder)
    assert dataset.format.startswith(format), dataset.format
    assert {name: len(split.images) for name, split in dataset.splits.items()} == images
    assert all(split.objects_per_category() == {"pothole": images[name]} for name, split in dataset.splits.items())
    assert dataset.findings == ()


@case
def ls_yolo_notes_json(folder: Path) -> None:
    _opens(folder, "YOLO", {"train": 4})


@case
def yolo_with_stray_json(folder: Path) -> None:
    _opens(folder, "YOLO", {"train": 2, "valid": 2})


@case
def macos_dot_underscore_json(folder: Path) -> None:
    _opens(folder, "COCO", {"train": 3})


@case
def split_folders_annotation_coco(folder: Path) -> None:
    _opens(folder, "COCO", {"train": 3, "val": 2})


@case
def split_folders_coco_json(folder: Path) -> None:
    _opens(folder, "COCO", {"train": 3, "val": 2})


def _is_named(folder: Path, words: str) -> None:
    try:
        open_dataset(folder)
    except DataError as error:
        assert words in error.message and error.fix, error
    else:
        raise AssertionError("it opens")


@case
def results_list_with_file_name(folder: Path) -> None:
    _is_named(folder, "detections of a model")


@case
def ytvis_video_json(folder: Path) -> None:
    _is_named(folder, "annotations of videos")


# Masks, adapters, command line


@case
def category_with_comma(folder: Path) -> None:
    from sam3_lora.data.phrase_list import join_phrases, split_phrases

    (category,) = open_dataset(folder).categories
    assert "phrase-with-comma" in found(folder)
    assert split_phrases(f"crack, {category}", [category]) == ["crack", category]
    assert split_phrases(join_phrases([category, "crack"])) == [category, "crack"]


@case
def names_not_english_and_null(folder: Path) -> None:
    findings = found(folder)
    assert findings["phrase-not-english"].count == 4 and "data.category_phrases" in findings["phrase-not-english"].fix
    assert findings["phrase-for-nothing"].count == 5
    assert open_dataset(folder).split("train").num_objects == 40


@case
def masks_noisy_values(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as empty:
        out = Path(empty) / "data" / "train"
        converted = convert_masks(folder / "images", folder / "masks", out, {"255": "pothole"}, min_pixels=16)
        annotations = json.loads((out / "_annotations.coco.json").read_text())["annotations"]
    assert not converted.unknown and len(annotations) == 6
    assert all(370 < item["area"] < 390 for item in annotations)


@case
def cvat_ultralytics_yolo(folder: Path) -> None:
    from sam3_lora.config import RunConfig
    from sam3_lora.train.preflight.preflight import preflight

    result = preflight(RunConfig().with_settings({"data.path": str(folder), "training.device": "cpu"}))
    assert [problem.kind for problem in result.problems if problem.severity == "error"] == ["no-masks"]


def main() -> int:
    """Prints a line per case; 1 if one has another outcome than its check asks or has no check."""
    root, *names = sys.argv[1:]
    wrong = 0
    for folder in sorted(Path(root).iterdir()):
        if not folder.is_dir() or (names and folder.name not in names):
            continue
        check = CHECKS.get(folder.name.replace("-", "_"))
        if check is None:
            told = "no check"
        else:
            try:
                check(folder)
                told = "ok"
            except Exception:
                told = "wrong\n" + traceback.format_exc(limit=-1)
        wrong += told != "ok"
        print(f"{folder.name}: {told}")
    return int(wrong > 0)


if __name__ == "__main__":
    raise SystemExit(main())
