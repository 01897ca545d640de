"""YAML 1.2 in and out, and files of settings: syntax errors, and names of settings in earlier versions.

By YAML 1.2 (core schema) ``1:30``, ``on`` and dates are text, ``010`` is 10, ``1e-4`` a number; PyYAML alone reads
YAML 1.1, where these are 90, true, dates, 8 and text. What may make a small text enormous or endless is refused: an
alias for a list or a mapping. So is a key that is repeated, of which PyYAML would keep the last.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from sam3_lora.errors import ConfigError
from sam3_lora.files import MB, read_file
from sam3_lora.text import short

# Names of earlier versions, in files, runs and --set -> the names of today.
RENAMED = {
    "data.flip": "augmentation.flip",
    "data.images": "data.image_dir",
    "data.phrase": "data.default_phrase",
    "data.phrases": "data.category_phrases",
    "training.accumulation": "training.gradient_accumulation_steps",
}
_COMPARE = "Compare it with the output of 'python -m sam3_lora config'"
MAX_BYTES = 2 * MB  # of a text: the names of 20,000 classes take less; its nodes in memory take about 300 times as much
_TAG = "tag:yaml.org,2002:"
_KINDS = ("null", "bool", "str", "seq", "map")
_NULL = re.compile("~|null|Null|NULL|")
_BOOL = re.compile("true|True|TRUE|false|False|FALSE")
_INT = re.compile("[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)  # after _INT
_NUMBERS = ((_INT, "int", "-+0123456789"), (_FLOAT, "float", "-+.0123456789"))
# The same in C, and 6 times as fast, where PyYAML was built with it.
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class YamlError(ValueError):
    """A text that is not read.

    Attributes:
        problem: in a few words.
        line: from 1; 0 if unknown.
    """

    def __init__(self, problem: str, line: int = 0) -> None:
        self.problem, self.line = problem, line
        super().__init__(f"{problem} (line {line})" if line else problem)


class _TextLoader(_Base):
    """Reads every value as text, but for those that are empty."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}
    # No others: dates, sets and bytes are no settings.
    yaml_constructors: ClassVar[dict[str | None, Any]] = {
        tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (None, *(_TAG + name for name in _KINDS))
    }


class _Loader(_TextLoader):
    """Reads values by the core schema."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


class _Dumper(yaml.SafeDumper):
    """Quotes text that any version of YAML would take for something else."""


def _whole(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern.pattern})\Z")


for _class in (_TextLoader, _Loader):
    _class.add_implicit_resolver(_TAG + "null", _whole(_NULL), ["~", "n", "N", ""])
_Loader.add_implicit_resolver(_TAG + "bool", _whole(_BOOL), list("tTfF"))
for _pattern, _name, _first in _NUMBERS:
    _Loader.add_implicit_resolver(_TAG + _name, _whole(_pattern), list(_first))
    _Dumper.add_implicit_resolver(_TAG + _name, _whole(_pattern), list(_first))


def _int(loader: Any, node: yaml.ScalarNode) -> int:
    value = loader.construct_scalar(node)
    return int(value, 0) if value[:2] in ("0x", "0o") else int(value)


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    value = loader.construct_scalar(node).lower()
    return math.nan if value == ".nan" else float(value.replace(".inf", "inf"))


_Loader.add_constructor(_TAG + "int", _int)
_Loader.add_constructor(_TAG + "float", _float)


def load(text: str, *, as_text: bool = False) -> Any:
    """The value of a YAML text with one document; None if it is empty.

    Args:
        text: YAML.
        as_text: whether numbers and booleans are text, too, as they were written.

    Raises:
        YamlError: it is no YAML, too long, has a key twice, or an alias for a list or a mapping.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"it has more than {MAX_BYTES / MB:g} MB")
    try:
        loader = (_TextLoader if as_text else _Loader)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(error.problem or "it is not YAML", mark.line + 1 if mark else 0) from None
    except RecursionError:
        raise YamlError("it is nested too deeply") from None
    except (yaml.YAMLError, UnicodeError):
        raise YamlError("it has characters that YAML does not allow") from None
    except YamlError:
        raise
    except (ValueError, TypeError, LookupError, ArithmeticError):
        raise YamlError("it has a value that does not fit its tag, or a number of thousands of digits") from None


def dump(value: Any) -> str:
    """A value in one line, to be written after ``name: ``."""
    text: str = yaml.dump([value], Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=math.inf)
    return text.strip()[1:-1]


def _check(root: yaml.Node) -> None:
    """Raises YamlError for a repeated key, and for a list or mapping that is met twice, through an alias."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.ScalarNode):
            continue
        if id(node) in seen:
            raise YamlError("it has an alias (*) for a list or a mapping", node.start_mark.line + 1)
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            _check_keys(node)
            waiting += [child for pair in node.value for child in pair]
        else:
            waiting += node.value


def _check_keys(node: yaml.MappingNode) -> None:
    names: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in names:
                raise YamlError(f"'{short(key.value)}' is given twice", key.start_mark.line + 1)
            names.add(key.value)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The sections in a YAML file. Raises ConfigError if it is missing, unreadable or not a mapping in YAML."""
    path = Path(path)
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig")
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
        ConfigError: not YAML, not a mapping, or empty.
    """
    try:
        values = load(text)
    except YamlError as error:
        raise ConfigError(f"Expected YAML in {source}, but it cannot be read: {error}", _COMPARE) from None
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
        (section, field), (to, name) = old.split("."), new.split(".")
        if isinstance(target := copy.setdefault(to, {}), dict):
            target[name] = copy[section].pop(field)
    return copy


def renamed_note(renamed: Mapping[str, str]) -> str:
    """The sentence for people about settings that were given by their old names."""
    names = ", ".join(f"{old} is now {new}" for old, new in renamed.items())
    return f"Settings of an earlier version were read: {names}."
