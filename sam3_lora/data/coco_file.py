"""Loads an annotation file, or says why it is no COCO JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sam3_lora.data.health import shown
from sam3_lora.errors import DataError

_EXPORT_AGAIN = "Export the dataset again as COCO JSON"


def load(json_path: Path) -> dict[str, Any]:
    """The file's content: an object with a list 'images'; nothing else about it is sure.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no list of images.
    """
    try:
        content = json_path.read_bytes()
    except OSError as error:
        raise DataError(f"{json_path} cannot be read: {error.strerror}", "Allow reading it") from None
    if not content.strip():
        raise DataError(f"Expected COCO JSON in {json_path}, but the file is empty", _EXPORT_AGAIN)
    try:
        data = json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(
            f"Expected COCO JSON in {json_path}, but it is cut off or not JSON (line {error.lineno}, column "
            f"{error.colno})",
            _EXPORT_AGAIN,
        ) from None
    except (ValueError, RecursionError):
        raise DataError(f"Expected COCO JSON in {json_path}, but it is not JSON", _EXPORT_AGAIN) from None
    if not isinstance(data, dict):
        raise DataError(
            f"Expected a COCO file with 'images' and 'annotations' in {json_path}, got a {type(data).__name__}",
            _EXPORT_AGAIN,
        )
    if not isinstance(data.get("images"), list):
        raise DataError(
            f"Expected a COCO file with a list 'images' in {json_path}, but its keys are {shown(list(data))}",
            _EXPORT_AGAIN,
        )
    return data
