"""Recognises formats that are not supported, so that the error can name them and the export to choose instead."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from sam3_lora.data.folders import MASK_FOLDERS, beginning, is_inside, listing, subfolders
from sam3_lora.data.layouts.json_outlines import outline_of
from sam3_lora.errors import DataError


@dataclass(frozen=True)
class Foreign:
    """A format that is not read.

    Attributes:
        holds: what its files hold, in words, in the plural.
        fix: what to do instead.
    """

    holds: str
    fix: str = "Export the dataset as COCO (in Roboflow: COCO Segmentation) or YOLO, and give the unpacked folder"


def _with_datumaro(name: str) -> str:
    return f"Convert them with Datumaro: datum convert -if {name} -i FOLDER -f coco -o OUT -- --save-media"


_INSTANCES = "Open the file of COCO's instances (such as instances_train2017.json) instead"
_VIDEO = Foreign(
    "annotations of videos (YouTube-VIS), with lists of boxes and masks per track",
    "Write a COCO file of single frames: each frame an entry of 'images', each box and mask an entry of 'annotations'",
)
_MOT = Foreign(
    "annotations of videos (MOT Challenge)",
    "Convert them to COCO: each frame an entry of 'images'; or import them into CVAT as MOT and export COCO 1.0",
)
_VIA = Foreign(
    "annotations of the VGG Image Annotator (VIA)",
    "In VIA choose Annotation > Export Annotations (COCO format), and put the file beside the images",
)
_LABEL_STUDIO = Foreign(
    "annotations of Label Studio in its own format",
    "In Label Studio choose Export > COCO with Images (or YOLO with Images), and give the unpacked folder",
)
_LABELME = Foreign("annotations of LabelMe", "Convert them: pip install labelme2coco, labelme2coco FOLDER")
_SUPERVISELY = Foreign("annotations of Supervisely", "Run Supervisely's app 'Export to COCO'")
_VOTT = Foreign("annotations of VoTT", "Convert them to COCO, for example by importing them into Roboflow")
_MMDETECTION = Foreign("annotations of MMDetection in its own format (a list with an entry per image)")
_LABELBOX = Foreign(
    "annotations of Labelbox in its own format", "Convert them to COCO, or export them to a tool that writes COCO"
)
_DETECTIONS = Foreign(
    "detections of a model (a list of results with scores) instead of annotations",
    "Open the COCO file with 'images' and 'categories' that the model was evaluated on",
)
# By the keys that an object has, all of them.
_BY_KEYS: dict[tuple[str, ...], Foreign] = {
    ("videos",): _VIDEO,
    ("sequences", "annotations"): _VIDEO,
    ("video_id", "masklet"): Foreign("masks of videos (SA-V)", _VIDEO.fix),
    ("shapes",): _LABELME,
    ("_via_img_metadata",): _VIA,
    ("_via_settings",): _VIA,
    ("asset", "regions"): _VOTT,
    ("regions",): _VIA,
    ("completions",): _LABEL_STUDIO,
    ("data", "annotations"): _LABEL_STUDIO,
    ("data", "predictions"): _LABEL_STUDIO,
    ("annotation_id", "lead_time"): _LABEL_STUDIO,
    ("data_row",): _LABELBOX,
    ("Labeled Data",): _LABELBOX,
    ("imgHeight", "objects"): Foreign("annotations of Cityscapes", _with_datumaro("cityscapes")),
    ("size", "objects"): _SUPERVISELY,
    ("classes", "tags"): _SUPERVISELY,
    ("categories", "items"): Foreign("annotations of Datumaro", _with_datumaro("datumaro")),
    ("item", "annotations"): Foreign(
        "annotations of V7 (Darwin)", "Export the dataset from V7 as COCO, or convert it: darwin convert coco FILES OUT"
    ),
    ("tags", "assets"): _VOTT,
    ("metadata", "instances"): Foreign(
        "annotations of SuperAnnotate", "Convert them to COCO, with the converter of SuperAnnotate's Python SDK"
    ),
    ("metainfo", "data_list"): _MMDETECTION,
    ("openlabel",): Foreign("annotations of ASAM OpenLABEL"),
}
# By the keys of the entries of a file that is a list.
_OF_LISTS: dict[tuple[str, ...], Foreign] = {
    ("image_id", "score"): _DETECTIONS,
    ("image_id", "caption"): Foreign("captions of images, without objects", _INSTANCES),
    ("image_id", "category_id"): Foreign(
        "annotations without their images and categories",
        "Write one object with the lists 'images', 'annotations' and 'categories'",
    ),
    ("image", "annotations"): Foreign("annotations of CreateML"),
    ("file_name", "annotations"): Foreign(
        "annotations of Detectron2 (a list with an entry per image)",
        "Convert them to COCO: detectron2.data.datasets.coco.convert_to_coco_json(registered name, file)",
    ),
    ("filename", "ann"): _MMDETECTION,
    ("label_hash", "data_units"): Foreign("annotations of Encord in its own format", "In Encord choose Export > COCO"),
    ("task_id", "response"): Foreign("annotations of Scale AI in its own format"),
    ("name", "labels"): Foreign("annotations of BDD100K (Scalabel)"),
    ("image_id", "objects"): Foreign("annotations of Visual Genome"),
}
# By the keys of COCO's annotations for other tasks, which have no 'category_id' or no object under it.
_TASKS: dict[str, Foreign] = {
    "caption": Foreign("captions of images, without objects", _INSTANCES),
    "segments_info": Foreign("panoptic segments, whose masks are in PNG files", _INSTANCES),
    "keypoints": Foreign("keypoints without boxes and masks", "Export them with boxes (bbox) or masks (segmentation)"),
}
_VOC = Foreign("annotations of Pascal VOC (XML)", _with_datumaro("voc"))
_BY_ENDING = {
    ".xml": Foreign("XML files"),
    ".tfrecord": Foreign("TensorFlow's TFRecord files"),
    ".tfrecords": Foreign("TensorFlow's TFRecord files"),
    ".record": Foreign("TensorFlow's TFRecord files"),
    ".parquet": Foreign("tables (Parquet)"),
    ".arrow": Foreign("tables (Arrow)"),
    ".jsonl": Foreign("JSON lines"),
    ".ndjson": Foreign("JSON lines"),
    ".manifest": Foreign("a manifest of Amazon SageMaker Ground Truth"),
    ".csv": Foreign("tables (CSV)"),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov", ".mkv"),
        Foreign("videos", "Extract their frames as images, for example with ffmpeg, and annotate them"),
    ),
}
_BY_NAME = {"gt.txt": _MOT}
# By text at the beginning of a file.
_BY_TEXT: dict[str, tuple[tuple[bytes, Foreign], ...]] = {
    ".xml": (
        (b"<annotations", Foreign("annotations of CVAT (XML)", "Export them from CVAT again, as COCO 1.0")),
        (b"<annotation", _VOC),
    ),
    ".csv": (
        (b"ImageID,", Foreign("annotations of Open Images (CSV)", _with_datumaro("open_images"))),
        (b"region_shape_attributes", _VIA),
    ),
    ".ini": ((b"seqLength", _MOT),),
}
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar")
_MAX_FOLDERS, _DEEPEST, _MAX_FILES = 64, 3, 3
_HEAD = 4096  # bytes of a file that are read to learn its kind
_MAX_XML = 10**6  # bytes of the XML of an image in which its first object is looked for


def is_archive(path: Path) -> bool:
    """Whether a file has the ending of an archive."""
    return path.suffix.lower() in _ARCHIVES


def foreign_format(root: Path) -> tuple[Path, Foreign] | None:
    """A file of the dataset in a folder that is in a format that is not read, and the format; None if unknown."""
    names: dict[Path, list[str]] = {}
    for folder in islice(_folders(root, root), _MAX_FOLDERS):
        with suppress(DataError):  # a folder that cannot be read
            names[folder] = listing(folder)
    for folder, inside in names.items():
        for name in [name for name in inside if name.lower().endswith(".json")][:_MAX_FILES]:
            outline = outline_of(folder / name, root)
            if found := format_of(outline) or (other_task(outline) if isinstance(outline, dict) else None):
                return folder / name, found
    paths = [folder / name for folder, inside in names.items() for name in inside]
    if path := next((path for path in paths if path.name in _BY_NAME), None):
        return path, _BY_NAME[path.name]
    by_ending = {ending: path for path in reversed(paths) if (ending := _ending(path)) in {**_BY_TEXT, **_BY_ENDING}}
    for ending in (*_BY_TEXT, *_BY_ENDING):
        if (path := by_ending.get(ending)) and (found := _of_text(path, ending, root) or _BY_ENDING.get(ending)):
            return path, found
    return None


def has_foreign_objects(path: Path, root: Path) -> bool:
    """Whether a file annotates objects of one image in a format that is not read: Pascal VOC's XML, LabelMe, ..."""
    if path.suffix.lower() == ".json":
        return format_of(outline_of(path, root)) is not None
    return _of_text(path, ".xml", root) is not None and b"<object" in beginning(path, root, _MAX_XML)


def _ending(path: Path) -> str:
    """The ending of a file's name, of that of a shard (a.tfrecord-00000-of-00010) too."""
    return path.suffix.lower().partition("-")[0]


def _of_text(path: Path, ending: str, root: Path) -> Foreign | None:
    head = beginning(path, root, _HEAD)
    return next((found for text, found in _BY_TEXT.get(ending, ()) if text in head), None)


def mask_folders(root: Path) -> tuple[Path, Path] | None:
    """The folders of the images and of their masks as image files, if the dataset consists of these."""
    for folder in islice(_folders(root, root), _MAX_FOLDERS):
        inner = subfolders(folder)
        masks = next((path for path in inner if path.name.casefold() in MASK_FOLDERS and _has_images(path)), None)
        if masks is not None and folder / "images" in inner:
            return folder / "images", masks
        with suppress(DataError):
            if any(name.lower().endswith("_mask.png") for name in listing(folder)):
                return folder, folder
    return None


def format_of(content: Any) -> Foreign | None:
    """The format of a JSON file with this content, or with this outline of it; None if unknown."""
    if isinstance(content, list):
        entry = content[0] if content else None
        return _by_keys(entry, {**_OF_LISTS, **_BY_KEYS}) if isinstance(entry, dict) else None
    if not isinstance(content, dict):
        return None
    inner = next(iter(content.values()), None)
    return _by_keys(content, _BY_KEYS) or (_by_keys(inner, _BY_KEYS) if isinstance(inner, dict) else None)


def other_task(sketch: dict[str, Any]) -> Foreign | None:
    """What a COCO file for another task holds; None if it is for this task or unknown."""
    entries = sketch.get("annotations")
    entry = entries[0] if isinstance(entries, list) and entries else None
    if not isinstance(entry, dict) or any(key in entry for key in ("bbox", "segmentation")):
        return None
    return next((found for key, found in _TASKS.items() if key in entry), None)


def _by_keys(content: dict[str, Any], table: dict[tuple[str, ...], Foreign]) -> Foreign | None:
    return next((found for keys, found in table.items() if all(key in content for key in keys)), None)


def _folders(folder: Path, root: Path, depth: int = 0) -> Iterator[Path]:
    """A folder and those in it, depth first."""
    yield folder
    for inner in subfolders(folder)[:_MAX_FOLDERS] if depth < _DEEPEST else ():
        if is_inside(inner, root):
            yield from _folders(inner, root, depth + 1)


def _has_images(folder: Path) -> bool:
    with suppress(DataError):
        return any(name.lower().endswith((".png", ".bmp", ".tif", ".tiff")) for name in listing(folder))
    return False
