"""The concepts that this app keeps: a file each, used in prompts by their names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.errors import ModelError, explain_os_errors
from sam3_lora.ui.preferences import config_folder

if TYPE_CHECKING:
    from sam3_lora.model.concept import Concept, ConceptCard
    from sam3_lora.predict.predictor import Predictor


def folder() -> Path:
    """Where the files are."""
    return config_folder() / "concepts"


def path_of(name: str) -> Path:
    """The file of a concept by its name."""
    from sam3_lora.model.concept import SUFFIX
    from sam3_lora.predict.export import file_part

    return folder() / f"{file_part(name)}{SUFFIX}"


def cards() -> dict[Path, ConceptCard]:
    """What the files say, in the order of their names; those that cannot be read are left out."""
    found = {}
    for path in sorted(folder().glob("*.safetensors")) if folder().is_dir() else ():
        with suppress(ModelError):
            found[path] = _read(str(path), path.stat().st_mtime_ns).card
    return found


def delete(path: Path) -> None:
    """Deletes a concept's file. Raises ModelError if that fails."""
    with explain_os_errors(ModelError, f"The concept {path.name} cannot be deleted", "Delete the file by hand"):
        path.unlink(missing_ok=True)


def make_known(predictor: Predictor, phrases: Sequence[str]) -> None:
    """Loads the concepts that phrases name into a predictor.

    Raises:
        ModelError: one was made for another model.
    """
    from sam3_lora.model.concept import key_of, names_in

    wanted = {key_of(name) for phrase in phrases for name in names_in(phrase)}
    for path, card in cards().items() if wanted else ():
        if key_of(card.name) in wanted:
            predictor.concepts.add(_read(str(path), path.stat().st_mtime_ns))


@st.cache_resource(max_entries=64, show_spinner=False)
def _read(path: str, stamp: int) -> Concept:
    from sam3_lora.model.concept import load

    return load(Path(path))
