"""Counts what a running Python process holds, on a signal: for bench/app_memory.py --objects only.

The module is put in the way of the interpreter's start as sitecustomize, so that the app itself knows nothing of it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

FILE = "SAM3_LORA_BENCH_OBJECTS"  # environment: the file that counts are written to
_RAW = ("ndarray", "bytes", "str", "bytearray")  # not tracked by the garbage collector: found through their holders


def install(folder: Path) -> None:
    """Makes every Python process started from here on count on SIGUSR1, if it is the app's server."""
    place = folder / "on-start"
    place.mkdir(exist_ok=True)
    shutil.copy(__file__, place / "sitecustomize.py")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")])
    os.environ[FILE] = str(folder / "objects.json")


def read_counts(server: Any, folder: Path, patience_s: float = 120) -> dict[str, Any]:
    """Asks the server (a psutil.Process) and waits for its answer."""
    file = folder / "objects.json"
    file.unlink(missing_ok=True)
    server.send_signal(signal.SIGUSR1)
    began = time.monotonic()
    while not file.exists():
        if time.monotonic() - began > patience_s:
            return {"error": "no answer"}
        time.sleep(0.5)
    return json.loads(file.read_text())


def count() -> dict[str, Any]:
    """Numbers of objects, MiB of arrays and texts, caches, threads and the C library's memory."""
    before = gc.get_count()
    unreachable = gc.collect()
    tracked = gc.get_objects()
    kinds = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in tracked)
    seen: set[int] = set()
    raw: Counter[str] = Counter()
    largest: list[tuple[int, str, str]] = []
    for holder in tracked:
        for one in gc.get_referents(holder):
            kind = type(one).__name__
            if kind in _RAW and id(one) not in seen:
                seen.add(id(one))
                size = int(one.nbytes) if kind == "ndarray" and one.base is None else sys.getsizeof(one)
                raw[kind] += size
                if size > 2_000_000:
                    largest.append((size, kind, type(holder).__qualname__))
    threads = Counter(name.name.rstrip("0123456789-_ ()") for name in threading.enumerate())
    return {
        "unreachable": unreachable,
        "pending": before,
        "tracked": len(tracked),
        "mib": {kind: round(size / 2**20, 1) for kind, size in raw.most_common()},
        "tensors": _tensors(tracked),
        "kinds": dict(kinds.most_common(40)),
        "own": {kind: n for kind, n in kinds.most_common() if kind.startswith("sam3_lora") and n > 1},
        "sessions": {kind: n for kind, n in kinds.items() if kind.endswith((".AppSession", ".ScriptRunner"))},
        "largest": sorted(largest, reverse=True)[:12],
        "threads": dict(threads.most_common(12)),
        "streamlit": _streamlit(),
        "malloc": _malloc(),
    }


def _tensors(tracked: list[Any]) -> dict[str, float]:
    torch = sys.modules.get("torch")
    if torch is None:
        return {}
    storages: dict[int, int] = {}
    number = 0
    for one in tracked:
        if type(one).__name__ in ("Tensor", "Parameter") and isinstance(one, torch.Tensor) and one.device.type == "cpu":
            number += 1
            storage = one.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return {"number": number, "mib": round(sum(storages.values()) / 2**20, 1)}


def _streamlit() -> dict[str, Any]:
    """Streamlit's caches and stores, in MiB by its own count."""
    runtime = sys.modules.get("streamlit.runtime")
    if runtime is None or not runtime.exists():
        return {}
    found: Counter[str] = Counter()
    number: Counter[str] = Counter()
    manager = runtime.get_instance().media_file_mgr
    files = manager._storage._files_by_id
    found["media files"] = sum(len(file.content) for file in files.values() if isinstance(file.content, bytes))
    number["media files"] = len(files)
    number["media sessions"] = len(manager._files_by_session_and_coord)
    return {name: [number[name], round(found[name] / 2**20, 1)] for name in number}


def _malloc() -> dict[str, float]:
    """The C library's memory in MiB: taken from the system, in use, free within it, in mappings of their own."""

    class Info(ctypes.Structure):
        _fields_ = [
            (name, ctypes.c_size_t)
            for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        ]

    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Info
    info = library.mallinfo2()
    names = {"taken": "arena", "used": "uordblks", "free": "fordblks", "mapped": "hblkhd"}
    return {name: round(getattr(info, key) / 2**20, 1) for name, key in names.items()}


def _write(*_: object) -> None:
    file = Path(os.environ[FILE])
    draft = file.with_suffix(".part")
    try:
        text = json.dumps(count())
    except Exception as error:  # the bench says what went wrong; the app goes on
        text = json.dumps({"error": repr(error)})
    draft.write_text(text)
    draft.replace(file)


if __name__ == "sitecustomize" and os.environ.get(FILE) and hasattr(signal, "SIGUSR1"):
    signal.signal(signal.SIGUSR1, _write)
