"""Unpacks adapters from zip archives and refuses everything that is unsafe or is no adapter."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
import zlib
from io import BufferedReader, BytesIO
from lzma import LZMAError
from pathlib import Path, PurePosixPath

from sam3_lora.errors import ModelError
from sam3_lora.files import atomic_folder
from sam3_lora.model.adapter_files import adapter_base
from sam3_lora.model.adapter_files import settings as adapter_settings
from sam3_lora.model.adapter_files.adapter_base import FILE, AdapterBase
from sam3_lora.model.adapter_files.find_adapter import SETTINGS, WEIGHTS

_MAX_FILES = 1000
_MAX_BYTES = {".safetensors": 2 << 30, ".json": 4 << 20}  # unpacked size by suffix; other files are not unpacked
_TEXTS = (".md", ".txt", ".yaml", ".yml", ".jsonl", ".log")  # of a run's archive: harmless and not needed
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_FIX = "Zip an adapter's folder, with its adapter_config.json and adapter_model.safetensors"


def unpack(archive: BytesIO | BufferedReader, into: Path, name: str = "adapter") -> Path:
    """Unpacks the adapter of an archive.

    Only JSON and safetensors files are unpacked; text files are ignored. Of several adapters, as in a run's archive,
    the one named "best" is taken, else the first. An archive that was unpacked before is not unpacked again.

    Args:
        archive: the opened zip file.
        into: the parent folder of all unpacked adapters.
        name: of the adapter; characters other than letters, digits, "-" and "_" are replaced.

    Returns:
        The adapter's folder, named by `name` and a hash of the archive.

    Raises:
        ModelError: it is no zip file, contains no adapter, or contains something unsafe: pickled weights, which may
            run code, paths that lead out of the archive, links, other kinds of files, files too large for an adapter,
            or damaged weights.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = _checked(opened)
            root = _root_of_adapter(entries)
            chosen = {name: entries[root / name] for name in (SETTINGS, WEIGHTS, FILE) if root / name in entries}
            safe_name = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)[:60]
            archive.seek(0)
            digest = hashlib.file_digest(archive, lambda: hashlib.blake2b(digest_size=6)).hexdigest()
            folder = into / f"{safe_name}-{digest}"
            if not folder.is_dir():
                _write(opened, chosen, folder)
            return folder
    except zipfile.BadZipFile as error:
        raise ModelError(f"Expected a zip archive with an adapter, but it cannot be opened ({error})", _FIX) from None
    # zipfile raises these for a full disk, an unknown compression, a password, and damaged content.
    except (OSError, NotImplementedError, RuntimeError, EOFError, UnicodeError, LZMAError, zlib.error) as error:
        raise ModelError(f"The archive cannot be unpacked ({error})", "Zip the adapter's folder again") from None


def _checked(archive: zipfile.ZipFile) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """The files that may be unpacked, by path. Raises ModelError for the first unsafe one."""
    listed = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(listed) > _MAX_FILES:
        raise ModelError(f"The archive holds {len(listed):,} files; an adapter is two", _FIX)
    entries = {}
    for entry in listed:
        path = PurePosixPath(entry.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in entry.filename:
            raise ModelError(f"The path '{entry.filename}' leads out of the archive, so nothing was unpacked", _FIX)
        if (entry.external_attr >> 16) & 0o170000 == 0o120000:
            raise ModelError(f"'{path}' is a link, which may lead anywhere, so nothing was unpacked", _FIX)
        if entry.flag_bits & 1:
            raise ModelError("The archive is protected by a password", "Zip the adapter's folder without one")
        ending = path.suffix.lower()
        if path.name.startswith("._") or "__MACOSX" in path.parts or path.name == ".DS_Store" or ending in _TEXTS:
            continue  # added by operating systems
        _check_kind(path, ending, entry.file_size)
        entries[path] = entry
    return entries


def _check_kind(path: PurePosixPath, ending: str, size: int) -> None:
    if ending in _PICKLES:
        raise ModelError(
            f"'{path}' contains pickled weights, which may run code when opened, so they are refused",
            "Save the adapter with PEFT as safetensors, and zip that",
        )
    if ending not in _MAX_BYTES:
        raise ModelError(f"Expected only safetensors and JSON files, but the archive contains '{path}'", _FIX)
    if size > _MAX_BYTES[ending]:
        raise ModelError(
            f"'{path}' would take {size / 1e9:.1f} GB when unpacked, more than the {_MAX_BYTES[ending] / 1e9:.3g} GB "
            "allowed for an adapter",
            "If the size is right, give the path of the adapter's folder instead",
        )


def _root_of_adapter(entries: dict[PurePosixPath, zipfile.ZipInfo]) -> PurePosixPath:
    roots = [path.parent for path in entries if path.name == SETTINGS]
    if not roots:
        raise ModelError(f"Expected an adapter in the archive, but it contains no {SETTINGS}", _FIX)
    root = next((root for root in roots if root.name == "best"), roots[0])
    if root / WEIGHTS not in entries:
        raise ModelError(f"Expected {WEIGHTS} next to {SETTINGS} in the archive, but there is none", _FIX)
    return root


def _write(archive: zipfile.ZipFile, chosen: dict[str, zipfile.ZipInfo], folder: Path) -> None:
    """The folder appears only when it is complete and checked."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    from safetensors import SafetensorError

    with atomic_folder(folder) as written:
        for name, entry in chosen.items():
            with archive.open(entry) as packed, (written / name).open("xb") as file:
                # zipfile reads no more than the size that was checked, although an entry's header may be forged.
                shutil.copyfileobj(packed, file)
        # A file from elsewhere does not decide which folder is read, or what is downloaded.
        if FILE in chosen:
            adapter_base.write(written, AdapterBase(adapter_base.read(written).image_size))
        try:
            adapter_settings.read_settings(written, "the archive")
            adapter_settings.check_weights(written, "the archive")
        except SafetensorError as error:
            raise ModelError(f"The {WEIGHTS} in the archive is damaged: {error}", _FIX) from None
