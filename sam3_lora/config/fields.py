"""Kinds of settings: sections of them, types with bounds, and numbers that may be "auto"."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


@dataclass(frozen=True)
class Pattern:
    """Metadata of a text setting: a regular expression that it must match, and the same in words.

    Attributes:
        regex: searched for anywhere in the text.
        words: what the text may contain, as a message shows it: "letters a to z".
    """

    regex: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def _check(self, value: str) -> str:
        if not re.search(self.regex, value):
            raise PydanticCustomError("pattern", "expected {words}", {"words": self.words})
        return value


# A setting that may be left to the program: sam3_lora/train/resolve.py chooses its value at the start of a run.
Auto = Literal["auto"]
AUTO: Auto = "auto"
AUTO_BATCH = 2  # images per forward pass that a batch size of auto stands for, in one pass or in two
BatchSize = Annotated[int, Field(ge=1, le=256)]
WorkerCount = Annotated[int, Field(ge=0, le=32)]
MIN_TILE, MAX_TILE = 64, 16_384  # side of a tile in pixels of the image
TILE_OVERLAP, MIN_TILE_OVERLAP, MAX_TILE_OVERLAP = 0.2, 0.05, 0.5  # shares of a tile's side
TileSize = Annotated[int, Field(ge=0, le=MAX_TILE), AfterValidator(lambda size: _check_tile(size))]
PhraseText = Annotated[str, StringConstraints(max_length=200), Pattern(r"\w", "words")]
RunName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=60),
    Pattern(r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$", "letters a to z, digits, spaces, dots and dashes"),
]


def _check_tile(size: int) -> int:
    if 0 < size < MIN_TILE:
        raise PydanticCustomError("tile", "expected 0, or {min} or more", {"min": MIN_TILE})
    return size


@dataclass(frozen=True)
class Negatives:
    """The negative phrases of an image.

    Attributes:
        count: how many, at most.
        foreign: how many of them, at least, are foreign words.
        refused: foreign words of the user's own.
    """

    count: int
    foreign: int = 0
    refused: tuple[str, ...] = ()


class Section(BaseModel):
    """A group of settings. Unknown names are errors: a typo must not silently leave a default in force.

    A setting's docstring is its description; its title is the label where the name alone says too little.
    """

    model_config = ConfigDict(
        extra="forbid", validate_assignment=True, validate_default=True, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _normalize(cls, value: Any, info: ValidationInfo) -> Any:
        """Rejects true as a number (pydantic reads it as 1) and NUL in text; an empty optional number is None."""
        kind = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and kind in (
            int,
            float,
            int | None,
            BatchSize | Auto,
            WorkerCount | Auto,
            TileSize | Auto,
        ):
            raise PydanticCustomError("number", "expected a number")
        if isinstance(value, str) and "\0" in value:
            raise PydanticCustomError("nul", "expected text without the NUL character")
        return None if value == "" and kind == (int | None) else value


def number_rules(info: FieldInfo) -> list[Any]:
    """The bounds of a number, such as annotated_types.Ge; also of one that may be auto instead."""
    numbers = [kind for kind in get_args(info.annotation) if get_origin(kind) is Annotated]
    return [
        *info.metadata,
        *(rule for kind in numbers for field in get_args(kind)[1:] for rule in getattr(field, "metadata", ())),
    ]
