"""One zip file of what is worth keeping of a run: adapters, configuration, metrics, log and status."""

from __future__ import annotations

import zipfile
from contextlib import suppress
from pathlib import Path

from sam3_lora.errors import RunError

_FILES = ("config.yaml", "metrics.jsonl", "log.txt", "status.json")


def zip_run(folder: Path, out: Path) -> Path:
    """Zips a run; its folder's name is the one at the top of the archive.

    Checkpoints and samples are left out: they are large, and of no use without the run's place.

    Raises:
        RunError: the file cannot be written.
    """
    adapters = [path for path in (folder / "adapters").rglob("*") if path.is_file() and not _is_hidden(path, folder)]
    partial = out.with_name(f".{out.name}.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in [*(folder / name for name in _FILES), *sorted(adapters)]:
                if path.is_file():
                    # Weights hardly shrink, and there may be hundreds of megabytes of them.
                    method = zipfile.ZIP_STORED if path.suffix == ".safetensors" else None
                    archive.write(path, Path(folder.name) / path.relative_to(folder), compress_type=method)
        partial.replace(out)
    except OSError as error:
        with suppress(OSError):  # where nothing could be written there is nothing to remove
            partial.unlink(missing_ok=True)
        raise RunError(
            f"The archive cannot be written to {out}: {error.strerror or error}",
            "Choose another folder, or free some space",
        ) from None
    return out


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether it is half of an adapter that is just being saved."""
    return any(part.startswith(".") for part in path.relative_to(folder).parts)
