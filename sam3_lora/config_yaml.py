"""Reads settings from YAML: syntax errors, repeated settings, and names of settings in earlier versions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from sam3_lora.errors import ConfigError
from sam3_lora.text import short

# Names of earlier versions, in files, runs and --set -> the names of today.
RENAMED = {
    "data.images": "data.image_dir",
    "data.phrase": "data.default_phrase",
    "data.phrases": "data.category_phrases",
    "training.accumulation": "training.gradient_accumulation_steps",
}
_COMPARE = "Compare it with the output of 'python -m sam3_lora config'"


class _Loader(yaml.SafeLoader):
    """A SafeLoader that rejects a repeated key, where YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                line = key.start_mark.line + 1
                raise ConfigError(f"'{short(key.value)}' is given twice, again in line {line}", "Delete one of the two")
            names.add(str(key.value))
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The sections in a YAML file. Raises ConfigError if it is missing, unreadable or not a mapping in YAML."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"Expected a configuration file at {path}, but there is none",
            "Write one with 'python -m sam3_lora config > my-run.yaml'",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(
            f"Expected YAML text in {path}, but it is a binary file", "Give the path of a .yaml file"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", "Give the path of a readable .yaml file"
        ) from None
    return parse_yaml(text, path.name)


def parse_yaml(text: str, source: str) -> dict[str, Any]:
    """The sections in YAML text.

    Args:
        text: a mapping of sections, in YAML.
        source: where it comes from, for the error message.

    Raises:
        ConfigError: not YAML, not a mapping, empty, or a setting is given twice.
    """
    try:
        values = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f" (line {mark.line + 1})" if mark else ""
        raise ConfigError(f"Expected YAML in {source}, but it cannot be parsed{line}", _COMPARE) from None
    if values is None:
        raise ConfigError(
            f"Expected settings in {source}, but it is empty", "Write a complete file with 'python -m sam3_lora config'"
        )
    if not isinstance(values, dict):
        raise ConfigError(
            f"Expected sections such as 'data:' and 'training:' in {source}, but found a {type(values).__name__}",
            _COMPARE,
        )
    return values


def renamed_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """The settings given by a name of an earlier version: old dotted name -> the name of today.

    Args:
        values: section -> setting -> value.
    """
    names = {f"{name}.{field}" for name, section in values.items() if isinstance(section, dict) for field in section}
    return {old: new for old, new in RENAMED.items() if old in names and new not in names}


def with_current_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested settings with the names of today for those of earlier versions."""
    copy = {name: dict(section) if isinstance(section, dict) else section for name, section in values.items()}
    for old, new in renamed_settings(copy).items():
        section, _, field = old.partition(".")
        copy[section][new.partition(".")[2]] = copy[section].pop(field)
    return copy


def renamed_note(renamed: Mapping[str, str]) -> str:
    """The sentence for people about settings that were given by their old names."""
    names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
    return f"Settings of an earlier version were read: {names}."
