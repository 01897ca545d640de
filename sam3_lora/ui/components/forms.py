"""A form made from the settings in config.py: one widget per field, chosen by the field's type alone.

The widgets' values live in the browser tab's session, valid or not, so that a wrong value can be
explained where it was typed; :func:`read_form` turns them into a RunConfig or into problems.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sam3_lora.config import Pattern, RunConfig, problems
from sam3_lora.ui.components.layout import escape

# Words of setting names that are not simply written with spaces.
_SPELLINGS = {
    "num": "number of",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "detr": "DETR",
    "mlp": "MLP",
    "runs": "folder of the runs",
}


def setting_names(section: str | None = None) -> list[str]:
    """All settings as dotted names in the order of declaration, or those of one section."""
    return [
        f"{name}.{field}"
        for name, model in _sections().items()
        if section in (None, name)
        for field in model.model_fields
    ]


def fill_form(config: RunConfig, names: Iterable[str] | None = None) -> None:
    """Puts a configuration's values into the widgets; call it before they are drawn, or in a callback."""
    values = config.model_dump()
    for name in setting_names() if names is None else names:
        section, field = name.split(".")
        st.session_state[_key(name)] = values[section][field]


def form_is_filled() -> bool:
    """Whether this tab's form has values yet."""
    return _key(setting_names()[0]) in st.session_state


def form_values() -> dict[str, Any]:
    """What the widgets hold, by dotted name."""
    return {name: form_value(name) for name in setting_names()}


def form_value(name: str) -> Any:
    """What one setting's widget holds."""
    return st.session_state.get(_key(name))


def read_form() -> tuple[RunConfig | None, dict[str, str]]:
    """The configuration that the widgets describe, or None and what is wrong by dotted name."""
    nested: dict[str, dict[str, Any]] = {}
    for name, value in form_values().items():
        section, field = name.split(".")
        nested.setdefault(section, {})[field] = value
    try:
        return RunConfig.model_validate(nested), {}
    except ValidationError as error:
        return None, problems(error)


def field_widget(name: str, found: dict[str, str], label: str | None = None) -> None:
    """Draws a setting's widget, and what is wrong with its value beneath it.

    Args:
        name: dotted, for example "lora.rank".
        found: problems by dotted name, as :func:`read_form` gives them.
        label: for a field whose own name says too little outside of its section.
    """
    section, field = name.split(".")
    info = _sections()[section].model_fields[field]
    # The loss terms keep the reference's names: people who know SAM 3 look for these.
    label = label or info.title or (field if section == "loss" else label_of(field))
    with st.container(gap="xxsmall"):
        _draw(label, info, {"key": _key(name), "help": info.description, "persist_state": "session"})
        if name in found:
            value = st.session_state[_key(name)]
            got = "" if value in (None, "", []) else f", got {escape(str(value))}"
            st.markdown(f":small[:red[:material/error: Expected {expected(info)}{got}.]]")


def label_of(name: str) -> str:
    """ "detr_decoder" -> "DETR decoder"; names of layers such as "q_proj" stay as they are."""
    if name.endswith("_proj"):
        return name
    words = " ".join(_SPELLINGS.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:] if words.islower() else words


def expected(info: FieldInfo) -> str:
    """What a setting may be, from its type and bounds: "a whole number from 1 to 512"."""
    kind, optional = _without_none(info.annotation)
    if kind in (int, float):
        number = "a whole number" if kind is int else "a number"
        return f"{number} {_bounds(info)}" + (", or nothing" if optional else "")
    if get_origin(kind) is list:
        return "at least one choice"
    return next((rule.words for rule in info.metadata if isinstance(rule, Pattern)), "some text")


def _bounds(info: FieldInfo) -> str:
    rules = {type(rule).__name__: rule for rule in info.metadata}
    if "Gt" in rules:
        return f"above {rules['Gt'].gt:,} and up to {rules['Le'].le:,}"
    if "Lt" in rules:
        return f"from {rules['Ge'].ge:,} to below {rules['Lt'].lt:,}"
    return f"from {rules['Ge'].ge:,} to {rules['Le'].le:,}"


def _draw(label: str, info: FieldInfo, shared: dict[str, Any]) -> None:
    """Dispatches on the annotation. Bounds are left to pydantic: the sentence for a wrong value is ours."""
    kind, optional = _without_none(info.annotation)
    if kind is bool:
        st.toggle(label, **shared)
    elif kind is int:
        # Only a field without a default in the widget itself can be emptied.
        empty = {"value": None, "placeholder": "No limit"} if optional else {}
        st.number_input(label, step=1, **empty, **shared)
    elif kind is float:
        st.number_input(label, step=_step(info.default), format="%g", **shared)
    elif get_origin(kind) is Literal:
        st.selectbox(label, get_args(kind), **shared)
    elif get_origin(kind) is list:
        (choice,) = get_args(kind)
        if choice is str:  # free words: what is chosen is all the choice there is, until more is typed
            words = st.session_state.get(shared["key"]) or []
            st.multiselect(label, words, accept_new_options=True, placeholder="Type a name", wrap=True, **shared)
        else:
            st.multiselect(label, get_args(choice), format_func=label_of, wrap=True, **shared)
    elif get_origin(kind) is dict:
        _tell_mapping(label, info, st.session_state.get(shared["key"]) or {})
    else:
        assert kind is str, f"no widget for a setting of type {kind}"
        st.text_input(label, **shared)


def _tell_mapping(label: str, info: FieldInfo, values: dict[str, Any]) -> None:
    """A mapping is only told here: its table stands where its keys are known, phrases on the dataset page."""
    st.markdown(label, help=info.description)
    told = ", ".join(f"{escape(key)} → {escape(str(value))}" for key, value in values.items())
    st.caption(told or "None of your own. The dataset page has a table of them.")


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """The type itself, and whether None is allowed beside it."""
    if get_origin(annotation) in (Union, UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0], True
    return annotation, False


def _step(default: float) -> float:
    """A step that fits the default's magnitude: 5e-4 -> 1e-4, 0.05 -> 0.01, 32 -> 1."""
    return min(1.0, 10.0 ** math.floor(math.log10(default))) if default > 0 else 0.01


def _sections() -> dict[str, type[BaseModel]]:
    return {name: info.annotation for name, info in RunConfig.model_fields.items()}


def _key(name: str) -> str:
    return f"setting-{name.replace('.', '-')}"
