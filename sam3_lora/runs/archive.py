"""One zip file of what is worth keeping of a run: adapters, configuration, metrics, log and status."""

from __future__ import annotations

import zipfile
from pathlib import Path

from sam3_lora.errors import RunError
from sam3_lora.files import atomic_file

_FILES = ("config.yaml", "metrics.jsonl", "log.txt", "status.json")


def zip_run(folder: Path, out: Path) -> Path:
    """Zips a run; its folder's name is the top folder of the archive.

    Checkpoints and samples are left out: they are large, and of no use without the run.

    Args:
        folder: the run's.
        out: the zip file, which is replaced if it exists.

    Returns:
        `out`.

    Raises:
        RunError: the file cannot be written.
    """
    adapters = [path for path in (folder / "adapters").rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in [*(folder / name for name in _FILES), *sorted(adapters)]:
                if path.is_file():
                    # Weights hardly compress, and there may be hundreds of megabytes of them.
                    method = zipfile.ZIP_STORED if path.suffix == ".safetensors" else None
                    archive.write(path, Path(folder.name) / path.relative_to(folder), compress_type=method)
    except OSError as error:
        raise RunError(
            f"The archive cannot be written to {out}: {error.strerror or error}",
            "Choose another folder, or free some space",
        ) from None
    return out


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether it belongs to an adapter that is just being saved."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
