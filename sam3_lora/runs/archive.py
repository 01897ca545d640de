"""One zip file of what is worth keeping of a run: adapters, configuration, metrics, log and status."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from sam3_lora.errors import RunError, explain_os_errors
from sam3_lora.files import atomic_file

_FILES = ("config.yaml", "edits.yaml", "held_out.json", "metrics.jsonl", "log.txt", "status.json")


def zip_run(folder: Path, out: Path) -> Path:
    """Zips a run; its folder's name is the top folder of the archive.

    Checkpoints and samples are left out: they are large, and of no use without the run.

    Args:
        folder: the run's.
        out: the zip file, which is replaced if it exists, or a folder for ``<name>.zip``.

    Returns:
        The zip file.

    Raises:
        RunError: the file cannot be written.
    """
    if out.is_dir():
        out = out / f"{folder.name}.zip"
    adapters = sorted((folder / "adapters").glob("[!.]*/**/[!.]*"))  # hidden: an adapter that is just being saved
    fix = "Choose another folder, or free some space"
    with explain_os_errors(RunError, f"The archive cannot be written to {out}", fix):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for path in [*(folder / name for name in _FILES), *adapters]:
                if os.path.isfile(path):
                    # Weights hardly compress, and there may be hundreds of megabytes of them.
                    method = zipfile.ZIP_STORED if path.suffix == ".safetensors" else None
                    archive.write(path, Path(folder.name) / path.relative_to(folder), compress_type=method)
    return out
