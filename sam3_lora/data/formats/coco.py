"""Reads a COCO file piece by piece, so that its size does not matter; or says why it is not COCO JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from sam3_lora.data.formats.lenient_json import as_utf8, loads
from sam3_lora.data.formats.unsupported import format_of
from sam3_lora.errors import DataError
from sam3_lora.files import open_regular
from sam3_lora.text import short_repr, type_in_words

EXPORT_AGAIN = "Export the dataset again as COCO JSON"
PIECE = 2**22  # bytes of a list that are decoded at once
SKETCHED = 2**18  # bytes of a list that are decoded to see what kind of file it is
MAX_ENTRY_BYTES = 2**26  # bytes; the polygons of any object take less
LENIENT_UP_TO = 2**28  # bytes of a file that is read whole if it is not strict JSON, because of NaN for example
_TRIES = 64
_FIRST_KEY = re.compile(rb"\s{0,64}\{\s{0,64}(\"[^\"\\]{1,64}\")")
_BETWEEN_OBJECTS = re.compile(rb"\}\s{0,64},\s{0,64}(?=\{)")
_BETWEEN_ANY = re.compile(rb",")

Decoder = msgspec.json.Decoder[Any]


class Attributes(msgspec.Struct, gc=False):
    """What of an annotation's 'attributes' turns its box, as CVAT writes it."""

    rotation: Any = 0
    angle: Any = 0
    theta: Any = 0


class AnnotationEntry(msgspec.Struct, gc=False):
    """An entry of 'annotations' as most files have it; the segmentation stays JSON until it is needed."""

    id: int | str
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    segmentation: msgspec.Raw = msgspec.Raw(b"")
    iscrowd: int | bool = 0
    ignore: int | bool = 0
    rotation: Any = 0
    angle: Any = 0
    theta: Any = 0
    attributes: Attributes | list[Any] | str | float | None = None
    is_instance_exhaustive: Any = 1

    @property
    def is_turned(self) -> bool:
        """Whether the box may be turned by an angle."""
        of = self.attributes
        return bool(self.rotation or self.angle or self.theta) or (
            type(of) is Attributes and bool(of.rotation or of.angle or of.theta)
        )


class CocoFile:
    """A COCO file: an object with a list 'images'; nothing else about it is certain.

    Lists are read in pieces, as plain JSON values of any type; annotations as AnnotationEntry if all entries of a piece
    are valid.

    Args:
        path: of the file.

    Attributes:
        encoding: of its text, "" for UTF-8.
        liberties: how it differs from strict JSON, see :func:`sam3_lora.data.formats.lenient_json.loads`.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no list of images.
    """

    encoding: str
    liberties: tuple[str, ...]
    looked_into = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self.encoding, self.liberties = "", ()
        self._values: dict[str, Any] = {}  # read whole
        self._raw: dict[str, memoryview] = {}  # not decoded yet
        self._fields: dict[str, str] = {}  # key of an annotation -> the key that it is read as
        self._open()
        if not (self._is_list("images") if self._raw else isinstance(self._values.get("images"), list)):
            keys = list(self._raw or self._values)
            got = "'images' is not a list" if "images" in keys else f"its keys are {short_repr(keys)}"
            self._require_known(self.sketch())
            raise DataError(f"Expected a COCO file with a list 'images' in {path}, but {got}", EXPORT_AGAIN)

    def _require_known(self, content: Any) -> None:
        if foreign := format_of(content):
            raise DataError(f"Expected a COCO file, but {self._path} holds {foreign.holds}", foreign.fix)

    def _is_list(self, key: str) -> bool:
        return bytes(self._raw.get(key, memoryview(b""))[:1]) == b"["

    def read_as(self, keys: Mapping[str, str]) -> None:
        """Reads the file as if it had COCO's keys.

        Args:
            keys: 'annotations', 'bbox' or 'segmentation' -> the key in the file; one that is not there changes nothing.
        """
        for parts in (self._raw, self._values):
            if (found := parts.pop(keys.get("annotations", ""), None)) is not None:
                parts["annotations"] = found
        self._fields = {theirs: ours for ours, theirs in keys.items() if ours != "annotations"}

    def sketch(self) -> dict[str, Any]:
        """The file as plain values with only the first entries of long lists, to see what kind of file it is."""
        if not self._raw:
            return {key: self._renamed(key, value) for key, value in self._values.items()}
        return {key: self._start(key, raw) for key, raw in self._raw.items()}

    def _renamed(self, key: str, entries: Any) -> Any:
        """The entries of 'annotations' with COCO's keys; other lists as they are."""
        if key != "annotations" or not self._fields or not isinstance(entries, list):
            return entries
        return [self._with_fields(entry) if isinstance(entry, dict) else entry for entry in entries]

    def _with_fields(self, entry: dict[str, Any]) -> dict[str, Any]:
        rest = {name: value for name, value in entry.items() if name not in self._fields}
        return rest | {ours: entry[theirs] for theirs, ours in self._fields.items() if entry.get(theirs)}

    def _start(self, key: str, raw: memoryview) -> Any:
        if self._is_list(key):
            return next(self._pieces(key, None, size=SKETCHED), [])
        return self._decoded(raw) if len(raw) <= PIECE else {"...": [None]}

    def categories(self) -> Any:
        """The value of 'categories', whatever it is; None if there is none."""
        if "categories" not in self._raw:
            return self._values.get("categories")
        if len(self._raw["categories"]) > MAX_ENTRY_BYTES:
            raise self._not_json(" that can be used: its categories alone have more than 64 megabytes")
        return self._decoded(self._raw["categories"])

    def images(self, progress: Callable[[float], None]) -> Iterator[list[Any]]:
        """The entries of 'images' in pieces; progress is called with the share that is read."""
        return self._pieces("images", None, progress)

    def annotations(self, progress: Callable[[float], None]) -> Iterator[list[Any]]:
        """The entries of 'annotations' in pieces, none if it is not a list; progress as for images."""
        return self._pieces("annotations", None if self._fields else AnnotationEntry, progress)

    def _open(self) -> None:
        try:
            with open_regular(self._path) as file:
                size = file.seek(0, 2)
                if not size:
                    raise DataError(f"Expected COCO JSON in {self._path}, but the file is empty", EXPORT_AGAIN)
                if size > psutil.virtual_memory().available:
                    raise DataError(
                        f"Expected a file that fits into the free memory, but {self._path} has {size / 2**30:.1f} GB",
                        "Close other programs, or export the dataset in parts",
                    )
                file.seek(0)
                # Not mapped: truncating a mapped file kills the process. No more than its size: it may be growing.
                whole, self.encoding = as_utf8(file.read(size))
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror}", "Check its permissions") from None
        content = memoryview(whole)
        try:
            parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            self._raw = {key: memoryview(raw) for key, raw in parts.items()}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            self._values = self._read_leniently(content, error)

    def _read_leniently(self, content: memoryview, error: Exception) -> dict[str, Any]:
        """The whole file as Python reads it: with NaN, infinity and lone surrogates."""
        if len(content) > LENIENT_UP_TO:
            raise self._not_json(f" ({error})")
        data = self._decoded(content)
        if not isinstance(data, dict):
            self._require_known(data)
            raise DataError(
                f"Expected a COCO file with 'images' and 'annotations' in {self._path}, got {type_in_words(data)}",
                EXPORT_AGAIN,
            )
        return data

    def _decoded(self, content: memoryview) -> Any:
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return msgspec.json.decode(content)
        if len(content) > LENIENT_UP_TO:
            raise self._not_json("")
        try:
            text = bytes(content)
            if not text.strip():
                raise DataError(f"Expected COCO JSON in {self._path}, but the file is empty", EXPORT_AGAIN)
            data, self.liberties = loads(text)
            return data
        except json.JSONDecodeError as error:
            raise self._not_json(f" (line {error.lineno}, column {error.colno})", "cut off or ") from None
        except (ValueError, RecursionError) as error:
            raise self._not_json(_why(error)) from None

    def _not_json(self, place: str, cut_off: str = "") -> DataError:
        return DataError(f"Expected COCO JSON in {self._path}, but it is {cut_off}not JSON{place}", EXPORT_AGAIN)

    def _pieces(
        self,
        key: str,
        entry: type[msgspec.Struct] | None,
        progress: Callable[[float], None] = lambda _: None,
        size: int = PIECE,
    ) -> Iterator[list[Any]]:
        if key not in self._raw:
            entries = self._values.get(key)
            if isinstance(entries, list) and entries:
                yield self._renamed(key, entries)
            return
        content = self._raw[key]
        if not self._is_list(key):
            return
        decoder: Decoder = msgspec.json.Decoder(list[entry]) if entry else msgspec.json.Decoder()  # type: ignore[valid-type]
        content, start = content[1:-1], 0
        first_key = _FIRST_KEY.match(content)
        cuts = [_BETWEEN_OBJECTS, _BETWEEN_ANY]
        if first_key:  # most likely every entry begins with it, and nothing inside them does
            cuts.insert(0, re.compile(rb"\}\s{0,64},\s{0,64}(?=\{\s{0,64}%b)" % re.escape(first_key[1])))
        while start < len(content):
            entries, start = self._piece(content, start, decoder, cuts, size)
            progress(start / len(content))
            if entries:
                yield self._renamed(key, entries)

    def _piece(
        self, content: memoryview, start: int, decoder: Decoder, cuts: list[re.Pattern[bytes]], size: int
    ) -> tuple[list[Any], int]:
        """The entries from `start` on, about `size` bytes of them, and where the next ones begin.

        A cut is right if everything before it is JSON: a cut inside an entry would leave a bracket open.
        """
        rest = content[start:]
        for cut in cuts if len(rest) > size else ():
            for tries, match in enumerate(cut.finditer(content, start + size - 1)):
                stop = match.start() + (cut is not _BETWEEN_ANY)
                if stop - start > MAX_ENTRY_BYTES or tries >= _TRIES:
                    break
                entries = self._entries(content[start:stop], decoder)
                if entries is not None:
                    return entries, match.end()
        entries = self._entries(rest, decoder) if len(rest) <= MAX_ENTRY_BYTES else None
        if entries is not None:
            return entries, len(content)
        if len(rest) <= PIECE:
            raise self._not_json("")
        raise DataError(
            f"Expected entries of a few kilobytes in {self._path}, but one has more than {PIECE // 2**20} megabytes",
            EXPORT_AGAIN,
        )

    def _entries(self, content: memoryview, decoder: Decoder) -> list[Any] | None:
        """The entries of a piece; None if it is cut in the wrong place."""
        piece = b"".join((b"[", content, b"]"))
        entries: list[Any]
        try:
            with suppress(msgspec.DecodeError):  # not all entries are as expected
                entries = decoder.decode(piece)
                return entries
            entries = json.loads(piece)
            return entries
        except json.JSONDecodeError:
            return None
        except (ValueError, RecursionError) as error:
            raise self._not_json(_why(error)) from None


def _why(error: Exception) -> str:
    """Why Python cannot read what may be valid JSON."""
    if isinstance(error, RecursionError):
        return " that can be used: it is nested too deeply"
    return " that can be used: it has a number of thousands of digits"
