"""Looks at the beginning of a JSON file of any size, to tell by its keys what kind of file it is."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from sam3_lora.data.folders import is_inside
from sam3_lora.files import open_regular

_HEAD, _TAIL = 2**16, 2**15  # bytes
_MORE = 2**22  # bytes that are read if the keys so far do not tell, because a long one comes first
_BEFORE = frozenset(("info", "licenses", "categories", "description", "metadata"))
_TOKEN = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\],:]', re.DOTALL)
_TASK_KEYS = re.compile(rb'"(caption|segments_info)"\s{0,9}:')


def outline_of(path: Path, root: Path) -> Any:
    """The beginning of a JSON file: its objects with their keys, its lists with their first entry, None for the rest.

    Args:
        path: of the file.
        root: the dataset's folder: nothing outside is read.

    Returns:
        None if it cannot be read or holds neither an object nor a list.
    """
    try:
        if not is_inside(path, root):
            return None
        with open_regular(path) as file:
            head = _as_utf8(file.read(_HEAD))
            outline = _outline(head)
            if len(head) >= _HEAD and isinstance(outline, dict) and _BEFORE.issuperset(outline):
                outline = _outline(head + file.read(_MORE))
            size = file.seek(0, 2)
            file.seek(max(0, size - _TAIL))
            tail = file.read() if size > _HEAD else b""
    except (OSError, ValueError):
        return None
    further_back = isinstance(outline, dict) and "images" in outline and not outline.get("annotations")
    if further_back and (match := _TASK_KEYS.search(tail)):  # the tasks that are known by a key of the annotations
        outline["annotations"] = [{match[1].decode(): None}]
    return outline


def _as_utf8(text: bytes) -> bytes:
    """The beginning of a file in UTF-8, which is what its ASCII needs; other encodings than UTF-16 and -32 stay."""
    encoding = json.detect_encoding(text)
    return text if encoding.startswith("utf-8") else text.decode(encoding, "ignore").encode("utf-8", "replace")


def _outline(text: bytes) -> Any:
    """The outline of JSON that may be cut off anywhere."""
    top: list[Any] = []
    open_values: list[Any] = [top]
    keys: list[str] = [""]  # the key whose value comes next, by level
    expects_key = False
    if text.removeprefix(codecs.BOM_UTF8).lstrip()[:1] not in (b"{", b"["):
        return None
    for token in _TOKEN.findall(text):
        value = open_values[-1]
        if token in (b"{", b"["):
            new: Any = {} if token == b"{" else []
            if isinstance(value, dict):
                value[keys[-1]] = new
            elif not value:
                value.append(new)
            open_values.append(new)
            keys.append("")
            expects_key = token == b"{"
        elif token in (b"}", b"]"):
            open_values.pop()
            keys.pop()
            if len(open_values) < 2:
                break
        elif token == b",":
            expects_key = isinstance(value, dict)
        elif token == b'"':  # text that is cut off
            break
        elif token != b":" and expects_key and isinstance(value, dict):
            keys[-1] = _text(token)
            value.setdefault(keys[-1], None)
            expects_key = False
    return top[0] if top else None


def _text(token: bytes) -> str:
    try:
        return str(json.loads(token))
    except ValueError:
        return token[1:-1].decode("utf-8", "replace")
