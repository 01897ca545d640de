"""Invalid settings in plain words: what was expected, what was given, and which setting was probably meant."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from sam3_lora.text import short

MAX_PROBLEMS = 5  # shown of one configuration: a file of another kind would have thousands

# Type of a pydantic error -> our words. The braces are filled from the error's context.
_EXPECTED = {
    "model_type": "expected a section with settings in it",
    "dict_type": "expected words by category",
    "too_short": "expected at least one",
    "string_too_short": "expected some text",
    "string_too_long": "expected at most {max_length} characters",
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
    """What is wrong, by dotted setting name, each as a sentence.

    Args:
        error: raised by validating config.
        config: the class of the whole configuration, whose sections hold the settings.
    """
    found: dict[str, str] = {}
    errors = error.errors()
    # Of a setting that may be auto, pydantic tells both what the value should be and that it is not auto.
    may_be_auto = {_name(item) for item in errors if _of_auto(item)}
    for item in errors:
        name = _name(item)
        if _of_auto(item):
            continue
        if item["type"] == "extra_forbidden":
            nearest = did_you_mean(name, config) if len(found) < MAX_PROBLEMS else ""  # the search takes time
            found[name] = f"there is no setting '{short(name)}'{nearest}"
        else:
            auto = ", or auto" if name in may_be_auto else ""
            found[name] = f"{name}: {_expected(item)}{auto}{_given(item['input'])}{_remedy(item)}"
    return found


def _name(item: ErrorDetails) -> str:
    return ".".join(str(part) for part in item["loc"][:2])


def _of_auto(item: ErrorDetails) -> bool:
    return item["loc"][2:] == ("literal['auto']",)


def _expected(item: ErrorDetails) -> str:
    words = _EXPECTED.get(item["type"])
    if words is None:
        return item["msg"][0].lower() + item["msg"][1:]
    context = item.get("ctx", {}).items()
    return words.format(**{name: f"{end:g}" if isinstance(end, float) else end for name, end in context})


def _given(value: Any) -> str:
    if isinstance(value, (dict, list)):
        return ""
    if value is None or isinstance(value, bool):
        return f", got {'nothing' if value is None else str(value).lower()}"
    return f", got {reprlib.repr(value) if isinstance(value, str) else short(str(value))}"


def _remedy(item: ErrorDetails) -> str:
    value = item["input"]
    if item["type"] == "list_type" and isinstance(value, str):
        return f"; write [{short(value)}]"
    if item["type"] == "string_type" and value is not None and not isinstance(value, (dict, list)):
        return "; put it into quotation marks"
    return ""


def all_in_one(messages: list[str]) -> str:
    """Messages in one sentence: the first few, and how many more there are."""
    more = f"; and {len(messages) - MAX_PROBLEMS:,} more" if len(messages) > MAX_PROBLEMS else ""
    return "; ".join(messages[:MAX_PROBLEMS]) + more


def did_you_mean(name: str, config: type[BaseModel]) -> str:
    """The setting that was probably meant, in brackets: the same name in another section, or a similar name."""
    sections: Mapping[str, Any] = config.model_fields
    names = [f"{section}.{field}" for section, info in sections.items() for field in info.annotation.model_fields]
    field = name.rpartition(".")[2]
    same_name = [known for known in names if known.endswith(f".{field}")]
    nearest = same_name or difflib.get_close_matches(name[:100], names, 1, 0.7)
    return f" (did you mean '{nearest[0]}'?)" if nearest else ""
