"""Finds keys of a COCO file that are not read and may say what is to be learned, so that none is ignored silently."""

from __future__ import annotations

import re
from typing import Any

from sam3_lora.data.findings.findings import FindingCollector
from sam3_lora.data.findings.wrong_keys import ELSEWHERE
from sam3_lora.text import short_repr

# Keys that are read, or that do not bear on what is learned. In lower case.
_KNOWN = {
    "images": frozenset(
        "id file_name width height coco_url text_input noun_phrase neg_category_ids not_exhaustive_category_ids "
        "pos_category_ids is_instance_exhaustive is_pixel_exhaustive queried_category license licence date_captured "
        "flickr_url flickr_640_url url path extra dataset_id num_annotations annotating category_ids events "
        "metadata milliseconds regenerate_thumbnail date time timestamp source split video_id frame_id seq_id "
        "user_tags tags size filename subset dataset original_id".split()
    ),
    "annotations": frozenset(
        "id image_id category_id bbox segmentation iscrowd ignore area is_instance_exhaustive is_pixel_exhaustive "
        "rotation angle theta color creator width height isbbox events metadata extra source track_id instance_id "
        "occluded truncated occlusion is_occluded is_truncated isoccluded istruncated keyframe outside "
        "keypoints num_keypoints caption category_name image_name datetime user created_at updated_at".split()
    ),
    "categories": frozenset(
        "id name supercategory super_category parent parent_id color colour metadata creator keypoints skeleton "
        "keypoint_colors isthing synset synonyms def frequency image_count instance_count instances_count".split()
    ),
}
_NESTED = "attributes"  # whose own keys are looked at
# Keys that say, if set, that an object is none, is unsure, stands for several, or what is not in the image.
_FLAGS = re.compile(
    "negativ|(^|_)neg(_|$)|absent|present|missing|ignore|group_?of|is_?group|crowd|depict|delet|invalid|difficult|"
    "unsure|uncertain|unknown|score|confid|probab|(^|_)parent"
)
_CHECKS = re.compile(
    "verif|(^|_)(is_?)?valid|(^|[_.])(is_?)?(annotated|labell?ed)$|review|approv"
)  # keys that say so if not set
# Keys of what an object is asked for by, which SA-Co has in each entry of 'images'.
_PHRASES = re.compile("phrase|prompt|text_input|caption|query|queries|sentence|expression|referring|tokens_")
_EITHER = re.compile("exhaust|complete")  # keys that say so set or not


def find_unread_keys(findings: FindingCollector, sketch: dict[str, Any]) -> None:
    """Adds the keys of images, annotations and categories that are not read.

    Args:
        findings: of the split.
        sketch: the file as plain values, of long lists only the first entries.
    """
    names = {
        entry["id"]: entry["file_name"]
        for entry in _entries(sketch, "images")
        if isinstance(entry.get("id"), (int, str)) and isinstance(entry.get("file_name"), str)
    }
    for name, known in _KNOWN.items():
        entries = _entries(sketch, name)
        where: dict[str, list[str | None]] = {}  # key -> the images of the entries that have it
        for entry in entries:
            for key, value in _unknown(entry, known | ELSEWHERE):
                if _says_something(key, value):
                    image = entry.get("id") if name == "images" else entry.get("image_id")
                    where.setdefault(key, []).append(names.get(image) if isinstance(image, (int, str)) else None)
        for key, images in where.items():
            is_flag = any(words.search(key.lower()) for words in (_FLAGS, _CHECKS, _EITHER))
            is_phrase = _PHRASES.search(key.lower()) is not None
            kind = "phrases-not-read" if is_phrase else "flags-not-read" if is_flag else "keys-not-read"
            detail = f"{short_repr(key)} in {len(images):,} of the first {len(entries):,} {name}"
            findings.add(kind, images[0], detail=detail)
            findings.mention(kind, filter(None, images))


def _entries(sketch: dict[str, Any], name: str) -> list[dict[str, Any]]:
    entries = sketch.get(name)
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _unknown(entry: dict[str, Any], known: frozenset[str]) -> list[tuple[str, Any]]:
    """The keys that are not read, with their values; those inside `attributes` as "attributes.key"."""
    found = [(key, value) for key, value in entry.items() if key.lower() not in known and key != _NESTED]
    inner = entry.get(_NESTED)
    if isinstance(inner, dict):
        found += [(f"{_NESTED}.{key}", value) for key, value in inner.items() if key.lower() not in known]
    return found


def _says_something(key: str, value: Any) -> bool:
    if value is None or value == "" or value == [] or value == {}:
        return False
    is_set = str(value).strip().lower() not in ("0", "0.0", "false", "no")
    return bool(_EITHER.search(key.lower())) or is_set != bool(_CHECKS.search(key.lower()))
