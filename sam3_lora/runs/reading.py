"""Reads files of a run, which may be of an earlier version, of another user, or damaged."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sam3_lora.config import RunConfig
from sam3_lora.config.yaml_text import read_yaml
from sam3_lora.data.edits.file import EDITS_FILE
from sam3_lora.files import open_regular

_TAIL_BYTES = 65_536


# Settings that runs of earlier versions do not name: they go on as they began, whatever the default is now.
_OF_EARLIER_RUNS = {"data.min_foreign": 0, "replay.source": "none"}


def read_config(path: Path) -> RunConfig:
    """The settings in a run's config.yaml; data.edits is the run's own copy. Raises ConfigError if it is damaged."""
    values = read_yaml(path)
    for name, value in _OF_EARLIER_RUNS.items():
        section, _, setting = name.partition(".")
        if isinstance(values.setdefault(section, {}), dict):
            values[section].setdefault(setting, value)
    config = RunConfig.from_dict(values, path.name)
    return config.with_settings({"data.edits": str(path.parent / EDITS_FILE)}) if config.data.edits else config


def as_written(config: RunConfig) -> RunConfig:
    """The settings as they stand in config.yaml: the edits are beside it, wherever the run's folder is."""
    return config.with_settings({"data.edits": EDITS_FILE}) if config.data.edits else config


def tail(path: Path, lines: int) -> str:
    """The last lines of a text file, of its last 64 KiB; "" if it is missing or cannot be read. Raises nothing."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            text = file.read(_TAIL_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])


def unreadable(paths: Iterable[Path]) -> dict[str, str]:
    """The files that are there, but cannot be opened: name -> the system's reason. Raises nothing."""
    found: dict[str, str] = {}
    for path in paths:
        try:
            open_regular(path).close()
        except FileNotFoundError:
            continue
        except OSError as error:
            found[path.name] = error.strerror or str(error)
    return found
