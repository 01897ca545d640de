"""A form generated from the settings in config.py: one widget per setting, chosen by the setting's type.

The browser tab's session holds the widgets' values, valid or not, so that an invalid value is explained where it was
typed; :func:`read_form` turns the values into a RunConfig or into problems.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import streamlit as st
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sam3_lora import config as settings
from sam3_lora.config import RunConfig
from sam3_lora.config.fields import AUTO, Auto, Pattern, number_rules
from sam3_lora.ui.components.layout import escape

# Parts of setting names that a label spells differently.
_SPELLINGS = {
    "num": "number of",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "detr": "DETR",
    "mlp": "MLP",
    "runs": "folder of the runs",
}
_SWITCH = {True: "on", False: "off"}


def setting_names(section: str | None = None) -> list[str]:
    """All settings as dotted names in the order of declaration, or those of one section."""
    return [
        f"{name}.{field}"
        for name, model in _sections().items()
        if section in (None, name)
        for field in model.model_fields
    ]


def fill_form(config: RunConfig, names: Iterable[str] | None = None) -> None:
    """Puts a configuration's values into the widgets; call it before they are drawn, or in a callback.

    Args:
        config: the values.
        names: dotted names of the settings to fill; None for all.
    """
    values = config.model_dump()
    for name in setting_names() if names is None else names:
        section, field = name.split(".")
        value = values[section][field]
        st.session_state[_key(name)] = None if value == AUTO and _is_empty_auto(name) else value


def form_is_filled() -> bool:
    """Whether this tab's form has values yet."""
    return _key(setting_names()[0]) in st.session_state


def form_value(name: str) -> Any:
    """The value of a setting's widget, valid or not; None before the form was filled."""
    value = st.session_state.get(_key(name))
    return AUTO if value is None and form_is_filled() and _is_empty_auto(name) else value


def read_form() -> tuple[RunConfig | None, dict[str, str]]:
    """The configuration in the form and no problems, or None and a problem per dotted setting name."""
    nested: dict[str, dict[str, Any]] = {}
    for name in setting_names():
        section, field = name.split(".")
        nested.setdefault(section, {})[field] = form_value(name)
    try:
        return RunConfig.model_validate(nested), {}
    except ValidationError as error:
        return None, settings.problems(error)


def field_widget(
    name: str,
    problems: dict[str, str],
    choices: Mapping[Any, str] | None = None,
    *,
    on_change: Callable[[str], None] | None = None,
    below: Callable[[], None] | None = None,
) -> None:
    """Draws a setting's widget, and below it what is wrong with its value.

    Args:
        name: dotted, for example "lora.rank".
        problems: by dotted name, from :func:`read_form`.
        choices: the values of a setting and their labels, the one in the form among them; None: free entry.
        on_change: called with the name when the user has changed the value.
        below: draws more beneath the widget.
    """
    section, field = name.split(".")
    info = _sections()[section].model_fields[field]
    label = setting_label(name)
    with st.container(gap="xxsmall"):
        shared: dict[str, Any] = {"key": _key(name), "help": info.description, "persist_state": "session"}
        if on_change is not None:
            shared |= {"on_change": on_change, "args": (name,)}
        if choices is None:
            _draw(label, info, shared)
        else:
            if None in choices:  # nothing chosen, and what that means
                shared |= {"index": None, "placeholder": choices[None]}
            options = [choice for choice in choices if choice is not None]
            st.selectbox(label, options, format_func=lambda value: choices.get(value, str(value)), **shared)
        if name in problems:
            value = st.session_state[_key(name)]
            got = "" if value in (None, "", []) else f", got {escape(str(value))}"
            st.markdown(f":small[:red[:material/error: Expected {expected(info)}{got}.]]")
        if below is not None:
            below()


def setting_label(name: str) -> str:
    """The label of a setting by its dotted name; the loss terms keep the names of SAM 3's reference code."""
    section, field = name.split(".")
    info = _sections()[section].model_fields[field]
    return info.title or (field if section == "loss" else label_of(field))


def label_of(name: str) -> str:
    """The label of a setting or choice: "detr_decoder" -> "DETR decoder"; layer names such as "q_proj" stay."""
    if name.endswith("_proj"):
        return name
    words = " ".join(_SPELLINGS.get(word, word) for word in name.split("_"))
    return words[0].upper() + words[1:] if words.islower() else words


def expected(info: FieldInfo) -> str:
    """The valid values of a setting, from its type and bounds: "a whole number from 1 to 512"."""
    kind, optional, auto = _parts(info)
    if kind in (int, float):
        number = "a whole number" if kind is int else "a number"
        otherwise = ", or nothing for auto" if auto else ", or nothing" if optional else ""
        return f"{number} {_bounds(info)}{otherwise}"
    if get_origin(kind) is list:
        is_choice = get_origin(get_args(kind)[0]) is Literal
        return "at least one choice" if is_choice else "texts with words in them, of up to 200 characters"
    return next((rule.words for rule in info.metadata if isinstance(rule, Pattern)), "some text")


def _bounds(info: FieldInfo) -> str:
    rules = {type(rule).__name__: rule for rule in number_rules(info)}
    if "Gt" in rules:
        return f"above {rules['Gt'].gt:,} and up to {rules['Le'].le:,}"
    if "Lt" in rules:
        return f"from {rules['Ge'].ge:,} to below {rules['Lt'].lt:,}"
    return f"from {rules['Ge'].ge:,} to {rules['Le'].le:,}"


def _draw(label: str, info: FieldInfo, shared: dict[str, Any]) -> None:
    """Draws the widget for the annotated type. Pydantic checks the bounds, so that the message is ours."""
    kind, optional, auto = _parts(info)
    if kind is bool and auto:
        st.selectbox(label, (AUTO, True, False), format_func=lambda value: _SWITCH.get(value, str(value)), **shared)
    elif kind is bool:
        st.toggle(label, **shared)
    elif kind is int:
        # A number input can be emptied only if its own default is None.
        placeholder = AUTO if auto else "Not set"
        empty: dict[str, Any] = {"value": None, "placeholder": placeholder} if optional or auto else {}
        st.number_input(label, step=1, **empty, **shared)
    elif kind is float:
        st.number_input(label, step=_step(info), format="%g", **shared)
    elif get_origin(kind) is Literal:
        st.selectbox(label, get_args(kind), **shared)
    elif get_origin(kind) is list:
        (choice,) = get_args(kind)
        if get_origin(choice) is not Literal:  # free text: the options are what was typed so far
            typed = st.session_state.get(shared["key"]) or []
            st.multiselect(label, typed, accept_new_options=True, placeholder="Type, then Enter", wrap=True, **shared)
        else:
            st.multiselect(label, get_args(choice), format_func=label_of, wrap=True, **shared)
    elif get_origin(kind) is dict:
        _show_mapping(label, info, st.session_state.get(shared["key"]) or {})
    else:
        assert kind is str, f"no widget for a setting of type {kind}"
        st.text_input(label, **shared)


def _show_mapping(label: str, info: FieldInfo, values: dict[str, Any]) -> None:
    """Shows a mapping without editing it: the table of phrases is on the dataset page, where the keys are known."""
    st.markdown(label, help=info.description)
    pairs = ", ".join(f"{escape(key)} → {escape(str(value))}" for key, value in values.items())
    st.caption(pairs or "None. Edit them on the dataset page, under Phrases.")


def _parts(info: FieldInfo) -> tuple[Any, bool, bool]:
    """A setting's type without None and "auto", and whether they are allowed beside it."""
    if get_origin(info.annotation) not in (Union, UnionType):
        return info.annotation, False, False
    kind, *others = get_args(info.annotation)
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    return bare, type(None) in others, Auto in others


def _is_empty_auto(name: str) -> bool:
    """Whether an empty widget of this setting means "auto": a number's does."""
    section, field = name.split(".")
    kind, _, auto = _parts(_sections()[section].model_fields[field])
    return auto and kind is int


def _step(info: FieldInfo) -> float:
    """The step of a number input, by the default's magnitude: 5e-4 -> 1e-4, 0.05 -> 0.01, 32 -> 1.

    Where that is 0 or the bound 1, by the bound: 0.05 for a share, else 1.
    """
    if info.default in (0, 1):
        return 0.05 if any(getattr(rule, "le", math.inf) <= 1 for rule in number_rules(info)) else 1.0
    return min(1.0, 10.0 ** math.floor(math.log10(info.default)))


def _sections() -> dict[str, type[BaseModel]]:
    return {name: type(section) for name, section in RunConfig()}


def _key(name: str) -> str:
    return f"setting-{name.replace('.', '-')}"
