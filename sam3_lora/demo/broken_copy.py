"""Makes a copy of the demo dataset with every fault that the app can find, to show what the findings mean."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from sam3_lora.data.folders import ANNOTATION_FILE
from sam3_lora.demo.faults import FAULTS
from sam3_lora.demo.faults.fault import SplitDraft
from sam3_lora.errors import DataError, explain_os_errors
from sam3_lora.files import atomic_folder
from sam3_lora.masks import decode_segmentation, encode_rle

SOUND = "sound"  # the name of an intact image in every split, to compare with
GUIDE = "README.md"
SPLITS = tuple(dict.fromkeys(fault.split for fault in FAULTS.values()))
_TITLE = "# A broken dataset"
_GUIDE = f"""{_TITLE}

Made from the demo dataset, with every fault that the app can find. Each faulty image is named after its
fault; those named 'sound' are unchanged.

| Split | Finding | What was done |
| --- | --- | --- |"""


def make_broken_copy(source: Path, out: Path) -> Path:
    """Writes a dataset with every fault of FAULTS, each in an image of its own that is named after it.

    The same source gives the same files. An existing copy is replaced.

    Args:
        source: a dataset in Roboflow's layout without faults, with at least half as many images with objects as there
            are faults and splits; only read.
        out: the folder to write; it must be new, empty, or an earlier copy.

    Returns:
        `out`.

    Raises:
        DataError: the source is not such a dataset, or `out` has other content or cannot be written.
    """
    source, out = Path(source), Path(out)
    images = _images_with_objects(source)
    _check_free(out)
    with explain_os_errors(DataError, f"The broken copy cannot be written to {out}", "Give another folder"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(out, replace=True) as work:
            _write(images, work)
    return out


def _check_free(out: Path) -> None:
    guide = out / GUIDE
    if guide.is_file() and guide.read_text(encoding="utf-8", errors="replace").startswith(_TITLE):
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(
            f"Expected a new or an empty folder for the broken copy, but {out} is not empty", "Give another folder"
        )


def _write(images: list[tuple[Path, dict, list[dict], list[dict]]], folder: Path) -> None:
    # Mirrored images are no near-duplicates of their originals.
    unused = itertools.chain(images, (_mirrored(*image, folder / ".mirrored") for image in images))
    drafts = {split: SplitDraft(folder / split) for split in SPLITS}
    for draft in drafts.values():
        draft.add(SOUND, *next(unused))
    cases = [(fault, drafts[fault.split].add(fault.kind, *next(unused))) for fault in FAULTS.values()]
    for fault, case in cases:  # after all images are added: some faults concern the whole split
        fault.damage(case)
    for draft in drafts.values():
        draft.write()
    shutil.rmtree(folder / ".mirrored", ignore_errors=True)
    (folder / GUIDE).write_text(_guide(), encoding="utf-8")


def _mirrored(
    path: Path, image: dict, annotations: list[dict], categories: list[dict], folder: Path
) -> tuple[Path, dict, list[dict], list[dict]]:
    """An image left to right, written to `folder`, with its annotations."""
    folder.mkdir(exist_ok=True)
    with Image.open(path) as picture:
        ImageOps.mirror(picture).save(folder / path.name)
    size_hw = image["height"], image["width"]
    mirrored = []
    for entry in annotations:
        x, y, w, h = entry["bbox"]
        mask = decode_segmentation(entry["segmentation"], size_hw)[:, ::-1]
        mirrored.append({**entry, "bbox": [image["width"] - x - w, y, w, h], "segmentation": encode_rle(mask)})
    return folder / path.name, image, mirrored, categories


def _images_with_objects(source: Path) -> list[tuple[Path, dict, list[dict], list[dict]]]:
    """(file, entry, its annotations, categories) of every image with objects, in a fixed order."""
    json_paths = sorted(source.glob(f"*/{ANNOTATION_FILE}"))
    if not json_paths:
        raise DataError(f"Expected a dataset with splits in {source}, but there is none", "Give the demo dataset")
    found = []
    for json_path in json_paths:
        data: dict[str, Any] = json.loads(json_path.read_bytes())
        of_image: dict[int, list[dict]] = {}
        for annotation in data["annotations"]:
            of_image.setdefault(annotation["image_id"], []).append(annotation)
        found += [
            (json_path.parent / image["file_name"], image, of_image[image["id"]], data["categories"])
            for image in data["images"]
            if image["id"] in of_image
        ]
    if 2 * len(found) < len(FAULTS) + len(SPLITS):
        raise DataError("The dataset has too few images with objects for a broken copy", "Give the demo dataset")
    return found


def _guide() -> str:
    rows = (f"| {fault.split} | {fault.kind} | {fault.sentence} |" for fault in FAULTS.values())
    return "\n".join((_GUIDE, *rows, ""))
