"""Files of image features that are computed once and kept outside the dataset: their names, their room on the disk.

What the features depend on besides the image (weights, precision) is known here as a text only.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sam3_lora.data.content_hashes import HASH_BYTES, ContentHashes
from sam3_lora.data.index.cache import cache_folder
from sam3_lora.data.records import ImageRecord
from sam3_lora.files import LEFTOVER_S, atomic_file, open_regular, read_file

Flipped = tuple[int, ...]  # the axes of (H, W) along which an image is flipped, ascending

_VERSION = 2  # another one makes all files stale
_NAME = "backbone"
_CHECKSUM_BYTES = 4  # CRC-32 of all that is before it: features that are wrong would be learned from
_HEADER_BYTES = 1_024  # more than safetensors' header takes
_RESERVE_BYTES = 2 * 1024**3  # of the disk, left free
_log = logging.getLogger(__name__)


def features_folder() -> Path:
    """The folder of all features, of all datasets and models."""
    return cache_folder() / "vision"


def hashes_file() -> Path:
    """Where the hashes of images' contents are remembered."""
    return features_folder() / "hashes.msgpack"


@dataclass(frozen=True)
class FeatureFiles:
    """The files of one model's features.

    Attributes:
        source: identifies all that they depend on besides the image.
        shape: of an image's features.
        dtype: of the features.
        limit_bytes: of all files in the folder, other models' included.
        folder: where they are.
    """

    source: str
    shape: tuple[int, int]
    dtype: torch.dtype
    limit_bytes: int
    folder: Path

    @property
    def file_bytes(self) -> int:
        """Of one file, its header and checksum included."""
        return len(self._header) + self._payload_bytes + _CHECKSUM_BYTES

    def path(self, identity: bytes, flipped: Flipped) -> Path:
        """The file of an image, as :func:`identity_of` names it, flipped along these axes."""
        key = f"{_VERSION} {self.source} {self.shape} {self.dtype} {identity.hex()} {flipped}"
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.safetensors"

    def is_intact(self, path: Path) -> bool:
        """Whether a file is there with the size and header of these features; one that is damaged is deleted."""
        try:
            with open_regular(path) as file:
                head = file.read(_HEADER_BYTES)
                size = os.fstat(file.fileno()).st_size
        except OSError:
            return False
        if head.startswith(self._header) and size == self.file_bytes:
            _mark_used(path)
            return True
        _log.warning("%s is damaged and computed again.", path)
        _delete(path)
        return False

    def load(self, path: Path) -> Tensor | None:
        """The features (H*W, C) in a file; None if it is missing or damaged, and then it is deleted."""
        try:
            data = read_file(path, self.file_bytes)
            content = data[:-_CHECKSUM_BYTES]
            if _checksum(content) != data[-_CHECKSUM_BYTES:]:
                raise ValueError("its checksum is another one")
            features = load(content)[_NAME]
        except FileNotFoundError:
            return None
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            _log.warning("%s cannot be read and is computed again: %s", path, error)
            _delete(path)
            return None
        _mark_used(path)
        return features if tuple(features.shape) == self.shape and features.dtype == self.dtype else None

    def save(self, path: Path, features: Tensor) -> None:
        """Writes features (H*W, C), whole or not at all. Raises OSError."""
        assert tuple(features.shape) == self.shape, f"expected features of {self.shape}, got {tuple(features.shape)}"
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as file:
            content = self._encode(features.detach().to("cpu", self.dtype).contiguous())
            file.write(content + _checksum(content))

    def room(self, wanted: int, keep: Iterable[Path] = (), *, evict: bool = True) -> int:
        """How many bytes can be written, at most `wanted`.

        Args:
            wanted: bytes.
            keep: files that are not deleted for it.
            evict: whether to delete others, the least recently used first.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            found = sorted(self._all_files())
            free = shutil.disk_usage(self.folder).free - _RESERVE_BYTES
        except OSError as error:
            _log.warning("Vision features cannot be kept in %s: %s", self.folder, error)
            return 0
        room = min(self.limit_bytes - sum(size for _, size, _ in found), free)
        kept = set(map(str, keep))
        for _, size, path in found if evict else ():
            if room >= wanted:
                break
            if path not in kept:
                with contextlib.suppress(OSError):
                    os.unlink(path)
                    room += size
        return max(0, min(room, wanted))

    def _all_files(self) -> Iterable[tuple[float, int, str]]:
        """(time of last use, size, path) of every file of features."""
        now = time.time()
        with os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # another process has deleted it
                    state = entry.stat()
                    if entry.name.endswith(".safetensors"):
                        yield state.st_mtime, state.st_size, entry.path
                    elif entry.name.endswith(".tmp") and state.st_mtime < now - LEFTOVER_S:
                        os.unlink(entry.path)

    @property
    def _payload_bytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    @cached_property
    def _header(self) -> bytes:
        """The beginning of every file: its header's length and its header."""
        return self._encode(torch.zeros(self.shape, dtype=self.dtype))[: -self._payload_bytes]

    @staticmethod
    def _encode(features: Tensor) -> bytes:
        return save({_NAME: features})


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _mark_used(path: Path) -> None:
    """Says that a file is in use; one that others own, or on a disk that is read-only, is as good without it."""
    with contextlib.suppress(OSError):
        os.utime(path)


def identity_of(record: ImageRecord, hashes: ContentHashes) -> bytes:
    """HASH_BYTES bytes that identify an image's pixels: its file's content, what decides on its EXIF rotation, and
    which part of it a tile is.

    Raises OSError if the file cannot be read.
    """
    part = "" if record.window is None else f" {record.window.box_xyxy} {record.window.image_hw}"
    rotation = f" {record.width} {record.height} {record.orientation}{part}".encode()
    return hashlib.blake2b(hashes.of(record.path) + rotation, digest_size=HASH_BYTES).digest()


class SplitFeatures:
    """The files of the images of a split, by the images' places in it; data loading workers see what becomes known.

    Args:
        files: of the model.
        count: images in the split.
    """

    def __init__(self, files: FeatureFiles, count: int) -> None:
        self.files = files
        # In shared memory, so that workers that were started earlier see it, too.
        empty = torch.zeros((count, HASH_BYTES), dtype=torch.uint8)
        self._identities: Tensor = empty.share_memory_()  # type: ignore[no-untyped-call]

    def identify(self, place: int, identity: bytes) -> None:
        """From now on, the features of an image are looked up by this name of :func:`identity_of`; b"": not at all."""
        self._identities[place] = torch.tensor(list(identity or bytes(HASH_BYTES)), dtype=torch.uint8)

    def path(self, place: int, flipped: Flipped) -> Path | None:
        """Where an image's features are, or should be; None while it has no name."""
        identity = bytes(self._identities[place].tolist())
        return self.files.path(identity, flipped) if any(identity) else None


def stack_features(features: Sequence[Tensor | None]) -> tuple[Tensor | None, tuple[int, ...]]:
    """Features (B, H*W, C) of several images, zero where they are None, and which rows these are.

    None and no rows if no image has any.
    """
    known = next((one for one in features if one is not None), None)
    if known is None:
        return None, ()
    rows = [torch.zeros_like(known) if one is None else one for one in features]
    return torch.stack(rows), tuple(row for row, one in enumerate(features) if one is None)


def _checksum(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")
