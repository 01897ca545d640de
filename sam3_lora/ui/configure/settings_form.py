"""The form of all settings: the essential ones first, presets, and the others in expanders by section."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config import PRESETS, TEXT_ENCODER_NOTE, RunConfig, preset
from sam3_lora.ui.components.forms import field_widget, fill_form, form_value, setting_names

_NUMBERS = ("lora.rank", "training.epochs", "training.batch_size", "training.learning_rate")
_ESSENTIAL = ("data.path", "model.base", "lora.components", *_NUMBERS, "output.name")  # what a first run needs
_SECTIONS = {
    "data": "Data and prompts",
    "lora": "LoRA layers",
    "training": "Training",
    "model": "Model and memory",
    "loss": "Loss weights",
    "output": "Output",
}
_PRESET = "preset"


def show_form(problems: dict[str, str]) -> None:
    """Draws the widgets of all settings. problems: what is wrong, by dotted setting name."""
    for column, name in zip(st.columns(2), ("data.path", "model.base"), strict=True):
        with column:
            field_widget(name, problems)
    _show_presets()
    field_widget("lora.components", problems)
    if "text_encoder" in (form_value("lora.components") or []):
        st.warning(TEXT_ENCODER_NOTE, icon=":material/warning:")
    for column, name in zip(st.columns(len(_NUMBERS)), _NUMBERS, strict=True):
        with column:
            field_widget(name, problems)
    field_widget("output.name", problems)
    for section, title in _SECTIONS.items():
        _show_section(section, title, problems)


def _show_section(section: str, title: str, problems: dict[str, str]) -> None:
    names = [name for name in setting_names(section) if name not in _ESSENTIAL]
    wrong = sum(name in problems for name in names)
    label = f"{title} :red-badge[{wrong} to correct]" if wrong else title
    with st.expander(label, expanded=bool(wrong), key=f"section-{section}"):
        st.caption(RunConfig.model_fields[section].annotation.__doc__ or "")
        columns = st.columns(2)
        for index, name in enumerate(names):
            with columns[index % 2]:
                field_widget(name, problems)


def _show_presets() -> None:
    """The presets fill the LoRA section; none is marked after the section was changed by hand."""
    st.session_state[_PRESET] = _matching_preset()
    chosen = st.segmented_control(
        "Preset", list(PRESETS), format_func=str.capitalize, key=_PRESET, on_change=_apply_preset
    )
    st.caption(PRESETS[chosen][0] if chosen else "Custom components, modules and rank.")


def _matching_preset() -> str | None:
    """The preset whose LoRA settings the form holds; the order of a list does not matter."""
    for name in PRESETS:
        wanted = preset(name).lora.model_dump()
        if all(_sorted(form_value(f"lora.{field}")) == _sorted(value) for field, value in wanted.items()):
            return name
    return None


def _sorted(value: object) -> object:
    return sorted(value) if isinstance(value, list) else value


def _apply_preset() -> None:
    if chosen := st.session_state[_PRESET]:
        fill_form(preset(chosen), setting_names("lora"))
