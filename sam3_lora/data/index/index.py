"""The index of a split: its images and annotations as arrays in one file, written once and mapped into memory."""

from __future__ import annotations

import io
import mmap
import struct
import zlib
from pathlib import Path
from typing import IO, Any, BinaryIO

import msgspec
import numpy as np

from sam3_lora.errors import DataError
from sam3_lora.files import open_regular

_MAGIC = b"SAM3LORA"
_PLACES = struct.Struct("<QQ")  # where the arrays begin, where the header begins
_TRAILER = struct.Struct("<QQI8s")  # the places, a checksum of all that is before it and of them, the magic
_PIECE = 2**20  # bytes that are written, or read to be checked, at once
_KINDS = ("bool", "int32", "int64", "float64")


class Index:
    """An open index; see :class:`sam3_lora.data.records.ImageTable` for what it holds.

    Args:
        buffer: what :class:`IndexWriter` wrote, all of it.
        path: of its file; None for an index in memory.

    Attributes:
        text: JSON of all segmentations, one after another.
        arrays: by name.
        words: everything that is not an array, as JSON values.
    """

    def __init__(self, buffer: Any, path: Path | None = None) -> None:
        view = memoryview(buffer)
        begin, header, _, _ = _TRAILER.unpack(view[-_TRAILER.size :])
        content = msgspec.json.decode(view[header : -_TRAILER.size])
        self.path = path
        self.text = view[:begin]
        self.words: dict[str, Any] = content["words"]
        self.arrays = {
            name: np.frombuffer(view, kind, int(np.prod(shape)), begin + offset).reshape(shape)
            for name, (kind, shape, offset) in content["arrays"].items()
            if kind in _KINDS
        }

    @classmethod
    def open(cls, path: Path) -> Index:
        """Maps an index file into memory. Raises OSError if it cannot be read, ValueError if it is damaged."""
        with open_regular(path) as file:
            _check(file)
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes an index on disk travels as its path, one in memory as its bytes."""
        if self.path is not None:
            return _reopened, (self.path, self.words["token"])
        return Index, (bytes(self.text.obj),)


def _check(file: BinaryIO) -> None:
    """Raises ValueError unless a file is an intact index; it is read, not mapped, so as not to fill the memory."""
    end = file.seek(0, 2) - _TRAILER.size
    if end < 0:
        raise ValueError("too short")
    file.seek(end)
    begin, header, wanted, magic = _TRAILER.unpack(file.read(_TRAILER.size))
    if magic != _MAGIC or not 0 <= begin <= header <= end:
        raise ValueError("no trailer")
    file.seek(0)
    checksum = 0
    while end > 0 and (piece := file.read(min(_PIECE, end))):
        checksum, end = zlib.crc32(piece, checksum), end - len(piece)
    if zlib.crc32(_PLACES.pack(begin, header), checksum) != wanted:
        raise ValueError("the checksum does not fit")


def _reopened(path: Path, token: str) -> Index:
    try:
        index = Index.open(path)
    except (OSError, ValueError):
        index = None
    if index is None or index.words["token"] != token:
        raise DataError("The dataset changed while it was in use", "Start again")
    return index


class IndexWriter:
    """Writes an index from front to back, so that the text never has to be in memory."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        """file: to write to, opened for binary writing; None keeps everything in memory."""
        self._memory = io.BytesIO()
        self._file = self._memory if file is None else file
        self._size = self._checksum = 0
        self._pending = bytearray()  # text that is not written yet, since larger pieces are faster

    def add_text(self, text: bytes) -> int:
        """Appends the JSON of one segmentation and returns where it begins."""
        start = self._size
        self._size += len(text)
        self._pending += text
        if len(self._pending) >= _PIECE:
            self._write_pending()
        return start

    def _write_pending(self) -> None:
        self._write(self._pending)
        self._pending = bytearray()

    def _write(self, piece: bytes | bytearray | memoryview) -> None:
        self._checksum = zlib.crc32(piece, self._checksum)
        self._file.write(piece)

    def finish(self, arrays: dict[str, np.ndarray], words: dict[str, Any]) -> None:
        """Writes everything that is not text; nothing can be added afterwards.

        Args:
            arrays: by name; bool, int32, int64 or float64.
            words: JSON values.
        """
        self._write_pending()
        begin, table = self._size, {}
        padding = -begin % 8
        pieces: list[bytes | memoryview] = [b"\0" * padding]
        size = padding
        for name, values in arrays.items():
            assert values.dtype.name in _KINDS
            table[name] = (values.dtype.name, values.shape, size)
            content = np.ascontiguousarray(values)
            pieces += [content.reshape(-1).view(np.uint8).data if content.size else b"", b"\0" * (-content.nbytes % 8)]
            size += content.nbytes + -content.nbytes % 8
        pieces.append(msgspec.json.encode({"arrays": table, "words": words}))
        for piece in pieces:
            self._write(piece)
        places = begin, begin + size
        self._file.write(_TRAILER.pack(*places, zlib.crc32(_PLACES.pack(*places), self._checksum), _MAGIC))
        self._file.flush()

    def in_memory(self) -> Index:
        """The finished index, if it was written to memory."""
        return Index(self._memory.getvalue())
