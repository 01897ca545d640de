"""What is wrong with given settings, in plain words."""

from __future__ import annotations

import difflib
import reprlib
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sam3_lora.errors import ConfigError
from sam3_lora.text import short

MAX_TOLD = 5  # problems of one configuration; of a file of another kind there would be thousands


class Loader(yaml.SafeLoader):
    """Reads YAML as usual, but of a setting that is given twice it does not take the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                line = key.start_mark.line + 1
                raise ConfigError(f"'{short(key.value)}' is given twice, again in line {line}", "Delete one of the two")
            names.add(str(key.value))
        return super().construct_mapping(node, deep)


# What pydantic calls a mistake -> how we do. The braces are filled from its context.
_EXPECTED = {
    "model_type": "expected a section with settings in it",
    "dict_type": "expected words by category",
    "too_short": "expected at least one",
    "string_too_short": "expected some text",
    "string_too_long": "expected at most {max_length} letters",
    "string_type": "expected text",
    "list_type": "expected a list",
    "literal_error": "expected {expected}",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected {ge} or more",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected {le} or less",
    "finite_number": "expected a number",
}
_EXPECTED |= dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "expected a whole number")
_EXPECTED |= dict.fromkeys(("float_type", "float_parsing"), "expected a number")
_EXPECTED |= dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false")


def explain(error: ValidationError, config: type[BaseModel]) -> dict[str, str]:
    """What is wrong, by dotted setting name, each as a sentence for people.

    Args:
        config: the class of the whole configuration, whose sections hold the settings.
    """
    found: dict[str, str] = {}
    for item in error.errors():
        path = [str(part) for part in item["loc"]]
        name = ".".join(path[:2])
        if item["type"] == "extra_forbidden":
            nearest = did_you_mean(name, config) if len(found) < MAX_TOLD else ""  # to look for it takes time
            found[name] = f"there is no setting '{short(name)}'{nearest}"
            continue
        known = _EXPECTED.get(item["type"])
        bounds = {name: f"{end:g}" if isinstance(end, float) else end for name, end in item.get("ctx", {}).items()}
        message = known.format(**bounds) if known else item["msg"][0].lower() + item["msg"][1:]
        if item["type"] == "string_pattern_mismatch":  # a regular expression tells people nothing
            message = f"expected {_allowed(path, config)}"
        found[name] = f"{name}: {message}{_given(item['input'])}{_remedy(item)}"
    return found


def _allowed(path: list[str], config: type[BaseModel]) -> str:
    """What a text may hold: the part of its description behind the colon."""
    section, field, *_ = path
    description = config.model_fields[section].annotation.model_fields[field].description
    return "words" if path[2:] else description.rpartition(": ")[2].rstrip(".")


def _given(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return ""
    if value is None or isinstance(value, bool):
        return f", got {'nothing' if value is None else str(value).lower()}"
    return f", got {reprlib.repr(value) if isinstance(value, str) else short(str(value))}"


def _remedy(item: Any) -> str:
    if item["type"] == "list_type" and isinstance(item["input"], str):
        return f"; write [{short(item['input'])}]"
    if item["type"] == "string_type" and item["input"] is not None and not isinstance(item["input"], (dict, list)):
        return "; put it into quotation marks"
    return ""


def together(told: list[str]) -> str:
    """All problems in one sentence, or the first few and how many more there are."""
    more = f"; and {len(told) - MAX_TOLD:,} more" if len(told) > MAX_TOLD else ""
    return "; ".join(told[:MAX_TOLD]) + more


def did_you_mean(name: str, config: type[BaseModel]) -> str:
    """The setting that was most likely meant, in brackets: one of another section, or of almost the same letters."""
    sections = {section: info.annotation.model_fields for section, info in config.model_fields.items()}
    names = [f"{section}.{field}" for section, fields in sections.items() for field in fields]
    field = name.rpartition(".")[2]
    of_elsewhere = [known for known in names if known.endswith(f".{field}")]
    nearest = of_elsewhere or difflib.get_close_matches(name[:100], names, 1, 0.7)
    return f" (did you mean '{nearest[0]}'?)" if nearest else ""
