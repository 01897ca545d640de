"""What the app remembers of its user from one start to the next: a small file in the user's configuration folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from sam3_lora.errors import ConfigError, explain_os_errors
from sam3_lora.files import atomic_write, read_file

CONFIG_VARIABLE = "SAM3_LORA_CONFIG"
_MAX_BYTES = 100_000


class Preferences(msgspec.Struct, frozen=True):
    """The user's choices, and what a restart would lose otherwise."""

    keep_training: bool = False  # a run is trained by a process of its own, which goes on when the app is closed
    launched_elsewhere: str = ""  # the last such run that is not in the app's folder of runs
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


def _path() -> Path:
    """In the folder of the environment variable SAM3_LORA_CONFIG, otherwise in the user's own."""
    import platformdirs

    chosen = os.environ.get(CONFIG_VARIABLE)
    folder = Path(chosen) if chosen else platformdirs.user_config_path("sam3-lora-studio", appauthor=False)
    return folder / "app.json"
