"""Reads a COCO file piece by piece, so that its size does not matter, or says why it is no COCO JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from sam3_lora.data.formats.unsupported import format_of
from sam3_lora.errors import DataError
from sam3_lora.text import short_repr, type_in_words

EXPORT_AGAIN = "Export the dataset again as COCO JSON"
PIECE = 2**22  # bytes of a list that are decoded at once
MAX_ENTRY_BYTES = 2**26  # bytes; the polygons of any object take less
LENIENT_UP_TO = 2**28  # bytes of a file that is read whole if it breaks the rules of JSON, by NaN for example
_TRIES = 64
_FIRST_KEY = re.compile(rb"\s{0,64}\{\s{0,64}(\"[^\"\\]{1,64}\")")
_BETWEEN_OBJECTS = re.compile(rb"\}\s{0,64},\s{0,64}(?=\{)")
_BETWEEN_ANY = re.compile(rb",")


class ImageEntry(msgspec.Struct, gc=False):
    """An entry of 'images' as most files have it."""

    id: int | str
    file_name: str
    width: int
    height: int


class AnnotationEntry(msgspec.Struct, gc=False):
    """An entry of 'annotations' as most files have it; the segmentation stays JSON until somebody looks at it."""

    id: int | str
    image_id: int | str
    category_id: int | str
    bbox: tuple[float, float, float, float]
    segmentation: msgspec.Raw = msgspec.Raw(b"")
    iscrowd: int = 0


class CocoFile:
    """A COCO file: an object with a list 'images'; nothing else about it is sure.

    Lists are handed out in pieces: entries that are as they should be as ImageEntry or AnnotationEntry,
    a piece with any other entry as plain JSON values, of which every type is possible.

    Raises:
        DataError: the file cannot be read, is not JSON, or has no list of images.
    """

    looked_into = 0

    def __init__(self, path: Path) -> None:
        self._path = path
        self.size = 0
        self._values: dict[str, Any] = {}  # read whole
        self._raw: dict[str, memoryview] = {}  # not decoded yet
        self._open()
        images = self._raw.get("images", b"")[:1] == b"[" if self._raw else isinstance(self._values.get("images"), list)
        if not images:
            keys = self.keys()
            got = "'images' is no list" if "images" in keys else f"its keys are {short_repr(keys)}"
            if foreign := format_of(self.sketch()):
                got += f", like those of {foreign}"
            raise DataError(f"Expected a COCO file with a list 'images' in {path}, but {got}", EXPORT_AGAIN)

    def keys(self) -> list[str]:
        """The names at the top of the file, in its order."""
        return list(self._raw or self._values)

    def sketch(self) -> dict[str, Any]:
        """The file as plain values with only the first entries of long lists, to see what kind of file it is."""
        if not self._raw:
            return self._values
        return {key: self._start(key, raw) for key, raw in self._raw.items()}

    def _start(self, key: str, raw: memoryview) -> Any:
        if raw[:1] == b"[":
            return next(self._pieces(key, None), [])
        return self._decoded(raw) if len(raw) <= PIECE else {"...": [None]}

    def categories(self) -> Any:
        """What stands under 'categories', whatever it is; None if nothing does."""
        if "categories" not in self._raw:
            return self._values.get("categories")
        if len(self._raw["categories"]) > MAX_ENTRY_BYTES:
            raise self._no_json(" that can be used: its categories alone have more than 64 megabytes")
        return self._decoded(self._raw["categories"])

    def images(self, progress: Callable[[float], None]) -> Iterator[list[Any]]:
        """The entries of 'images' in pieces; progress(share that is read)."""
        return self._pieces("images", ImageEntry, progress)

    def annotations(self, progress: Callable[[float], None]) -> Iterator[list[Any]]:
        """The entries of 'annotations' in pieces, none if it is no list; progress(share that is read)."""
        return self._pieces("annotations", AnnotationEntry, progress)

    def _open(self) -> None:
        try:
            with self._path.open("rb") as file:
                self.size = file.seek(0, 2)
                if not self.size:
                    raise DataError(f"Expected COCO JSON in {self._path}, but the file is empty", EXPORT_AGAIN)
                if self.size > psutil.virtual_memory().available:
                    raise DataError(
                        f"Expected a file that fits into the free memory, but {self._path} has "
                        f"{self.size / 2**30:.1f} GB",
                        "Close other programs, or export the dataset in parts",
                    )
                file.seek(0)
                content = memoryview(file.read())  # a map of a file that somebody cuts off would end the process
        except OSError as error:
            raise DataError(f"{self._path} cannot be read: {error.strerror}", "Allow reading it") from None
        if content[:3] == b"\xef\xbb\xbf":  # a byte order mark
            content = content[3:]
        try:
            parts = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
            self._raw = {key: memoryview(raw) for key, raw in parts.items()}
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            self._values = self._read_leniently(content, error)

    def _read_leniently(self, content: memoryview, error: Exception) -> dict[str, Any]:
        """The whole file as Python reads it: with NaN and infinity, and halves of surrogate pairs."""
        if len(content) > LENIENT_UP_TO:
            raise self._no_json(f" ({error})")
        data = self._decoded(content)
        if not isinstance(data, dict):
            raise DataError(
                f"Expected a COCO file with 'images' and 'annotations' in {self._path}, got {type_in_words(data)}"
                + (f", like that of {foreign}" if (foreign := format_of(data)) else ""),
                EXPORT_AGAIN,
            )
        return data

    def _decoded(self, content: memoryview) -> Any:
        with suppress(msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return msgspec.json.decode(content)
        if len(content) > LENIENT_UP_TO:
            raise self._no_json("")
        try:
            text = bytes(content)
            if not text.strip():
                raise DataError(f"Expected COCO JSON in {self._path}, but the file is empty", EXPORT_AGAIN)
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise self._no_json(f" (line {error.lineno}, column {error.colno})", "cut off or ") from None
        except (ValueError, RecursionError) as error:
            raise self._no_json(_why(error)) from None

    def _no_json(self, place: str, cut_off: str = "") -> DataError:
        return DataError(f"Expected COCO JSON in {self._path}, but it is {cut_off}not JSON{place}", EXPORT_AGAIN)

    def _pieces(
        self, key: str, entry: type[msgspec.Struct] | None, progress: Callable[[float], None] = lambda _: None
    ) -> Iterator[list[Any]]:
        if key not in self._raw:
            entries = self._values.get(key)
            if isinstance(entries, list) and entries:
                yield entries
            return
        content = self._raw[key]
        if content[:1] != b"[":
            return
        decoder = msgspec.json.Decoder(list[entry]) if entry else msgspec.json.Decoder()
        content, start = content[1:-1], 0
        first_key = _FIRST_KEY.match(content)
        cuts = [_BETWEEN_OBJECTS, _BETWEEN_ANY]
        if first_key:  # most likely every entry begins with it, and nothing inside them does
            cuts.insert(0, re.compile(rb"\}\s{0,64},\s{0,64}(?=\{\s{0,64}%b)" % re.escape(first_key[1])))
        while start < len(content):
            entries, start = self._piece(content, start, decoder, cuts)
            progress(start / len(content))
            if entries:
                yield entries

    def _piece(
        self, content: memoryview, start: int, decoder: msgspec.json.Decoder, cuts: list[re.Pattern]
    ) -> tuple[list[Any], int]:
        """The entries from `start` on, about PIECE bytes of them, and where the next ones begin.

        A cut is right if what lies before it is JSON: a cut inside an entry would leave something open.
        """
        if len(content) - start <= PIECE:
            entries = self._entries(b"[%b]" % content[start:], decoder)
            if entries is not None:
                return entries, len(content)
            raise self._no_json("")
        for cut in cuts:
            for tries, match in enumerate(cut.finditer(content, start + PIECE - 1)):
                stop = match.start() + (cut is not _BETWEEN_ANY)
                if stop - start > MAX_ENTRY_BYTES or tries >= _TRIES:
                    break
                entries = self._entries(b"[%b]" % content[start:stop], decoder)
                if entries is not None:
                    return entries, match.end()
        rest = content[start:]
        entries = self._entries(b"[%b]" % rest, decoder) if len(rest) <= MAX_ENTRY_BYTES else None
        if entries is not None:
            return entries, len(content)
        raise DataError(
            f"Expected entries of a few kilobytes in {self._path}, but one has more than {PIECE // 2**20} megabytes",
            EXPORT_AGAIN,
        )

    def _entries(self, piece: bytes, decoder: msgspec.json.Decoder) -> list[Any] | None:
        """The entries of a piece; None if it is cut in the wrong place."""
        try:
            return decoder.decode(piece)
        except msgspec.ValidationError:
            pass  # not every entry is as it should be
        except msgspec.DecodeError:
            return None
        except (UnicodeDecodeError, RecursionError) as error:
            raise self._no_json(_why(error)) from None
        try:
            return json.loads(piece)
        except json.JSONDecodeError:
            return None
        except (ValueError, RecursionError) as error:
            raise self._no_json(_why(error)) from None


def _why(error: Exception) -> str:
    """Why Python cannot read what may well be JSON."""
    if isinstance(error, RecursionError):
        return " that can be used: it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return ": its text is not UTF-8"
    return " that can be used: it has a number of thousands of digits"
