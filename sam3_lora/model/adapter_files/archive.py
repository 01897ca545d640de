"""Unpacks adapters from zip archives and refuses everything that is unsafe or is no adapter."""

from __future__ import annotations

import hashlib
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath

from sam3_lora.errors import ModelError, explain_os_errors
from sam3_lora.files import MB, atomic_folder
from sam3_lora.model.adapter_files import adapter_base, taught_phrases
from sam3_lora.model.adapter_files.adapter_base import FILE, AdapterBase
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, WEIGHTS
from sam3_lora.text import short_repr

_PLACE = "the archive"
_MAX_FILES = 1000
_MAX_DIRECTORY = MB  # bytes of the list of files: 1000 entries with long paths
_MAX_BYTES = {".safetensors": 2 << 30, ".json": 4 << 20}  # unpacked size by suffix; other files are not unpacked
_MAX_RATIO = 20  # of a file's size to its size in the archive; weights hardly shrink, freshly initialized ones by half
_FREE_BYTES = 4 << 20  # below this size the ratio does not matter
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others can ask for gigabytes of memory
_TEXTS = (".md", ".svg", ".txt", ".yaml", ".yml", ".jsonl", ".log")  # of a run's archive: harmless and not needed
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_FIX = "Zip an adapter's folder, with its adapter_config.json and adapter_model.safetensors"


def unpack(
    archive: BytesIO | BufferedReader, into: Path, check: Callable[[Path, str], None], name: str = "adapter"
) -> Path:
    """Unpacks the adapter of an archive; it stays only if it is accepted.

    Only JSON and safetensors files are unpacked; text files are ignored. Of several adapters, as in a run's archive,
    the one named "best" is taken, else the first. An archive that was unpacked before is not unpacked again.

    Args:
        archive: the opened zip file.
        into: the parent folder of all unpacked adapters.
        check: is called with the unpacked folder and what messages call it, before the folder appears under its name;
            raises ModelError for an adapter that is not wanted.
        name: of the adapter; characters other than letters, digits, "-" and "_" are replaced.

    Returns:
        The adapter's folder, named by `name` and a hash of the archive.

    Raises:
        ModelError: it is no zip file, contains no adapter, contains something unsafe (pickled weights, which may run
            code, paths that lead out of the archive, links, other kinds of files, files that are too large or grow too
            much when unpacked), or is refused by `check`.
    """
    with _explained_errors():
        opened = zipfile.ZipFile(_BoundedReads(archive))
        archive.seek(0)
        digest = hashlib.file_digest(archive, lambda: hashlib.blake2b(digest_size=6)).hexdigest()
        entries = _checked(opened, archive.seek(0, 2))
        root = _root_of_adapter(entries)
    names = (SETTINGS, WEIGHTS, FILE, taught_phrases.FILE)
    chosen = {name: entries[root / name] for name in names if root / name in entries}
    safe_name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60]
    folder = into / f"{safe_name}-{digest}"
    if folder.is_dir():
        check(folder, _PLACE)
    else:
        with explain_os_errors(ModelError, f"The archive cannot be unpacked into {into}", "Free disk space"):
            _write(opened, chosen, folder, check)
    return folder


@contextmanager
def _explained_errors() -> Iterator[None]:
    """Turns what zipfile raises into an error for users."""
    try:
        yield
    except zipfile.BadZipFile as error:
        reason = short_repr(str(error))
        raise ModelError(f"Expected a zip archive with an adapter, but it cannot be opened ({reason})", _FIX) from None
    except (NotImplementedError, RuntimeError, EOFError, ValueError, struct.error, zlib.error) as error:
        reason = short_repr(str(error))
        raise ModelError(f"The archive cannot be unpacked ({reason})", "Zip the adapter's folder again") from None


class _BoundedReads:
    """A file of which zipfile reads a bounded part at a time: it reads the whole list of an archive's files at once."""

    def __init__(self, file: BytesIO | BufferedReader) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        content = self._file.read(_MAX_DIRECTORY + 1 if size < 0 else min(size, _MAX_DIRECTORY + 1))
        if len(content) > _MAX_DIRECTORY:
            raise ModelError("The archive's list of files is too long; an adapter is two files", _FIX)
        return content


def _checked(archive: zipfile.ZipFile, size: int) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files that may be unpacked, by path. Raises ModelError for the first unsafe one.

    Args:
        archive: opened.
        size: of the archive, in bytes.
    """
    listed = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(listed) > _MAX_FILES:
        raise ModelError(f"The archive holds {len(listed):,} files; an adapter is two", _FIX)
    entries: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for entry in listed:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        name = short_repr(str(path))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise ModelError(f"The path {name} leads out of the archive, so nothing was unpacked", _FIX)
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise ModelError(f"{name} is a link, which may lead anywhere, so nothing was unpacked", _FIX)
        if entry.flag_bits & 1:
            raise ModelError("The archive is protected by a password", "Zip the adapter's folder without one")
        ending = path.suffix.lower()
        if path.name.startswith("._") or "__MACOSX" in path.parts or path.name == ".DS_Store" or ending in _TEXTS:
            continue  # added by operating systems
        _check_kind(name, ending)
        _check_size(name, entry, _MAX_BYTES[ending], size)
        if path in entries:
            raise ModelError(f"The archive holds {name} twice, and only one of them can be meant", _FIX)
        entries[path] = entry
    return entries


def _check_kind(name: str, ending: str) -> None:
    if ending in _PICKLES:
        raise ModelError(
            f"{name} contains pickled weights, which may run code when opened, so they are refused",
            "Save the adapter with PEFT as safetensors, and zip that",
        )
    if ending not in _MAX_BYTES:
        raise ModelError(f"Expected only safetensors and JSON files, but the archive contains {name}", _FIX)


def _check_size(name: str, entry: zipfile.ZipInfo, limit: int, archive_size: int) -> None:
    """Raises ModelError for an entry that is too large, as the archive declares it, or packed in an unusual way.

    zipfile unpacks no more than the declared size, and no more than the packed bytes give.
    """
    if entry.compress_type not in _METHODS:
        raise ModelError(
            f"{name} is compressed in a way that is not supported", "Zip the adapter's folder with Deflate"
        )
    if entry.file_size > limit:
        raise ModelError(
            f"{name} would take {entry.file_size / 1e9:.1f} GB when unpacked, more than the {limit / 1e9:.3g} GB "
            "allowed for an adapter",
            "If the size is right, give the path of the adapter's folder instead",
        )
    packed = min(entry.compress_size, archive_size)
    if entry.file_size > max(_FREE_BYTES, _MAX_RATIO * packed):
        raise ModelError(
            f"{name} would grow from {packed / MB:,.1f} to {entry.file_size / MB:,.0f} MB when unpacked, as no weights "
            "do, so nothing was unpacked",
            _FIX,
        )


def _root_of_adapter(entries: dict[PurePosixPath, zipfile.ZipInfo]) -> PurePosixPath:
    roots = [path.parent for path in entries if path.name == SETTINGS]
    if not roots:
        raise ModelError(f"Expected an adapter in the archive, but it contains no {SETTINGS}", _FIX)
    root = next((root for root in roots if root.name == "best"), roots[0])
    if root / WEIGHTS not in entries:
        raise ModelError(f"Expected {WEIGHTS} next to {SETTINGS} in the archive, but there is none", _FIX)
    return root


def _write(
    archive: zipfile.ZipFile, chosen: dict[str, zipfile.ZipInfo], folder: Path, check: Callable[[Path, str], None]
) -> None:
    """The folder appears only when it is complete and checked."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder) as written:
        for name, entry in chosen.items():
            with _explained_errors(), archive.open(entry) as packed, (written / name).open("xb") as file:
                shutil.copyfileobj(packed, file)
        # A file from elsewhere does not decide which folder is read, or what is downloaded.
        if FILE in chosen:
            trained = adapter_base.read(written, _PLACE)
            adapter_base.write(written, AdapterBase(trained.image_size, tiles=trained.tiles))
        check(written, _PLACE)
