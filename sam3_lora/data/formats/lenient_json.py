"""Reads JSON as tools write it: in other encodings than UTF-8, with NaN, trailing commas and comments."""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, with which it begins
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_PIECE = 2**22
_HIGH = re.compile(rb"[\x80-\xff]+")
_CHINESE = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]+")
# A string, which stays; or what only JavaScript allows: a comment, a comma before a closing bracket.
_ODD = re.compile(r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[\]}])', re.DOTALL)


def as_utf8(content: bytes) -> tuple[bytes, str]:
    """The text of a file in UTF-8 without a byte order mark, and the encoding it had, "" for UTF-8.

    What is in no Unicode encoding is taken for Chinese (GB 18030) if it reads as such, else for western European.
    """
    for mark, encoding in _BOMS.items():
        if content.startswith(mark):
            if encoding == "utf-8-sig":
                return content[len(mark) :], ""
            return content.decode(encoding, "replace").encode("utf-8", "replace"), encoding.upper()
    if content.isascii() and b"\0" not in content[:4]:
        return content, ""
    if b"\0" in content[:4] and (encoding := json.detect_encoding(content)) != "utf-8":
        return content.decode(encoding, "replace").encode("utf-8", "replace"), encoding.upper()
    if _is_utf8(content):
        return content, ""
    encoding = "GB 18030" if _is_chinese(content) else "Windows-1252"
    codec = "gb18030" if encoding == "GB 18030" else "cp1252" if _decodes(content, "cp1252") else "latin-1"
    return content.decode(codec).encode(), encoding


def _is_utf8(content: bytes) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")("surrogatepass")
    try:
        for start in range(0, len(content), _PIECE):
            decoder.decode(content[start : start + _PIECE])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_chinese(content: bytes) -> bool:
    try:
        return all(_CHINESE.fullmatch(run.decode("gb18030")) for run in _HIGH.findall(content)[:10_000])
    except UnicodeDecodeError:
        return False


def loads(text: bytes) -> tuple[Any, tuple[str, ...]]:
    """The value of a JSON text, and which liberties it takes: "nan", "trailing-commas", "comments".

    Raises:
        json.JSONDecodeError: it is no JSON even so.
        ValueError: a number has thousands of digits, or it is not UTF-8.
        RecursionError: it is nested too deeply.
    """
    liberties: dict[str, None] = {}

    def not_finite(name: str) -> float:
        liberties["nan"] = None
        return float(name)

    try:
        return json.loads(text, parse_constant=not_finite), tuple(liberties)
    except json.JSONDecodeError as error:
        first = error
    liberties.clear()

    def strict(match: re.Match[str]) -> str:
        if match[1] is not None:
            return match[1]
        liberties["trailing-commas" if match[0] == "," else "comments"] = None
        return ""

    repaired = _ODD.sub(strict, text.decode("utf-8", "surrogatepass"))
    if not liberties:
        raise first
    try:
        return json.loads(repaired, parse_constant=not_finite), tuple(liberties)
    except json.JSONDecodeError:
        raise first from None
