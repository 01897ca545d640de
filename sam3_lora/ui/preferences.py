"""What the app remembers of its user from one start to the next: a small file in the user's configuration folder."""

from __future__ import annotations

import hashlib
import os
import re
import time
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sam3_lora.config import DEMO
from sam3_lora.data.edits.file import has_edits
from sam3_lora.data.folders import dataset_folder
from sam3_lora.errors import ConfigError, explain_os_errors
from sam3_lora.files import atomic_write, read_file, user_path
from sam3_lora.text import short

CONFIG_VARIABLE = "SAM3_LORA_CONFIG"
_MAX_BYTES = 100_000
_MAX_RECENT = 6
_MAX_CATEGORIES = 4  # named of a dataset


class RecentDataset(msgspec.Struct, frozen=True):
    """A dataset that was opened, how it was read, and what it was then."""

    path: str  # as typed
    images: int
    objects: int
    categories: tuple[str, ...]  # the first few names
    num_categories: int
    errors: int  # findings that are errors
    image_dir: str = ""
    default_phrase: str = ""
    crowds_as_objects: bool = False
    opened: float = 0.0  # unix seconds


class Preferences(msgspec.Struct, frozen=True):
    """The user's choices, and what a restart would lose otherwise."""

    keep_training: bool = False  # a run is trained by a process of its own, which goes on when the app is closed
    launched_elsewhere: str = ""  # the last such run that is not in the app's folder of runs
    datasets: tuple[RecentDataset, ...] = ()  # the last opened first, each path once
    dismissed: float = 0.0  # runs that were interrupted before this time, in unix seconds, are not mentioned again


def load_preferences() -> Preferences:
    """The preferences; the defaults where there are none yet, or none that can be read."""
    try:
        return msgspec.json.decode(read_file(_path(), _MAX_BYTES), type=Preferences)
    except (OSError, ValueError):
        return Preferences()


def change_preferences(**changes: Any) -> None:
    """Changes some of them, by name, and keeps them. Raises ConfigError if they cannot be written."""
    before, path = load_preferences(), _path()
    after = replace(before, **changes)
    if after == before:
        return
    fix = f"Make its folder writable, or choose another with the environment variable {CONFIG_VARIABLE}"
    with explain_os_errors(ConfigError, f"What the app should remember cannot be written to {path}", fix):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, msgspec.json.encode(after))


def remember_dataset(dataset: RecentDataset) -> None:
    """Puts a dataset first among the recent ones. Raises ConfigError if it cannot be written."""
    known = load_preferences().datasets
    categories = tuple(short(name) for name in dataset.categories[:_MAX_CATEGORIES])
    newest = replace(dataset, categories=categories, opened=time.time())
    if known and replace(known[0], opened=newest.opened) == newest:
        return
    others = (each for each in known if each.path != dataset.path)
    change_preferences(datasets=(newest, *others)[:_MAX_RECENT])


def places() -> list[Path]:
    """Folders to look for a dataset in: the home folder, the current one, those that recent datasets lie in."""
    own = [user_path(each.path).absolute().parent for each in load_preferences().datasets if each.path != DEMO]
    return list(dict.fromkeys([Path.home(), Path.cwd(), *own]))


def edits_file(path: str) -> Path:
    """The file in which the app keeps the edits of a dataset, whether or not it is there. path: as typed."""
    root = str(dataset_folder(path))
    name = re.sub(r"[^\w-]+", "-", Path(root).name)[-60:]
    digest = hashlib.blake2b(root.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return config_folder() / "edits" / f"{name}-{digest}.yaml"


def kept_edits(path: str) -> str:
    """The path of :func:`edits_file`, with which a dataset is opened unless other edits are chosen; "" without any."""
    file = edits_file(path)
    return str(file) if has_edits(file) else ""


def config_folder() -> Path:
    """That of the environment variable SAM3_LORA_CONFIG, otherwise the user's own."""
    import platformdirs

    chosen = os.environ.get(CONFIG_VARIABLE)
    return Path(chosen) if chosen else platformdirs.user_config_path("sam3-lora-studio", appauthor=False)


def _path() -> Path:
    return config_folder() / "app.json"
