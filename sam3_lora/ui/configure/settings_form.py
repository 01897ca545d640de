"""The form of all settings: the essential ones first, presets, and the others in expanders by section."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from sam3_lora.config import TEXT_ENCODER_NOTE, RunConfig
from sam3_lora.data.dataset import Dataset
from sam3_lora.data.splits.split_use import expected_use
from sam3_lora.errors import Sam3LoraError
from sam3_lora.recipes import PRESETS, preset
from sam3_lora.ui import resources
from sam3_lora.ui.components.forms import field_widget, fill_form, form_value, read_form, setting_names
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.configure import image_size_view
from sam3_lora.ui.configure.recipe_view import show_mark, show_recipe
from sam3_lora.ui.recipe import mark_own, same
from sam3_lora.ui.split_choices import train_choices, valid_choices

_NUMBERS = ("lora.rank", "training.epochs", "training.batch_size", "training.learning_rate")
_ESSENTIAL = ("data.path", "model.base", "lora.components", *_NUMBERS, "output.name")  # what a first run needs
_SECTIONS = {
    "data": "Data and prompts",
    "augmentation": "Augmentation",
    "lora": "LoRA layers",
    "replay": "Replay",
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
            _field(name, problems)
    dataset = _open_dataset(problems)
    image_size_view.warn_of_small_objects(dataset)
    show_recipe()
    _show_presets()
    _field("lora.components", problems)
    if "text_encoder" in (form_value("lora.components") or []):
        st.warning(TEXT_ENCODER_NOTE, icon=":material/warning:")
    for column, name in zip(st.columns(len(_NUMBERS)), _NUMBERS, strict=True):
        with column:
            _field(name, problems)
    _field("output.name", problems)
    for section, title in _SECTIONS.items():
        _show_section(section, title, problems, dataset)


def _open_dataset(problems: dict[str, str]) -> Dataset | None:
    """The dataset of the form, with a line on which of its images are used, or why it cannot be opened."""
    if "data.path" in problems:
        return None
    dataset = None
    try:
        dataset = resources.open_dataset(form_value("data.path"))
        config, _ = read_form()
        if config is not None:
            use = expected_use(dataset, config.data, config.training.seed)
            st.caption(f":material/call_split: {escape(use.sentence)}")
    except Sam3LoraError as error:
        st.caption(f":orange[:material/warning:] {escape(error.message)}. {escape(error.fix)}.")
    return dataset


def _choices(name: str, dataset: Dataset | None) -> Mapping[Any, str] | None:
    """The choices of a setting that names a split, and of the image size; None for other settings."""
    if name == image_size_view.SETTING:
        return image_size_view.size_choices()
    train, current = form_value("data.train_split"), form_value(name)
    if name == "data.train_split":
        return train_choices(dataset, current)
    if name == "data.valid_split":
        return valid_choices(dataset, train, current, form_value("data.holdout") or 0)
    return None


def _show_section(section: str, title: str, problems: dict[str, str], dataset: Dataset | None) -> None:
    names = [name for name in setting_names(section) if name not in _ESSENTIAL]
    wrong = sum(name in problems for name in names)
    label = f"{title} :red-badge[{wrong} to correct]" if wrong else title
    key = f"section-{section}"
    if wrong:
        st.session_state[key] = True
    # Drawn when it is opened: a browser takes seconds for the widgets of all settings.
    with st.expander(label, key=key, on_change="rerun") as opened:
        if not opened.open:
            return
        st.caption(RunConfig.model_fields[section].annotation.__doc__ or "")
        columns = st.columns(2)
        for index, name in enumerate(names):
            with columns[index % 2]:
                _field(name, problems, _choices(name, dataset), dataset)
        if section == "augmentation":
            _show_cost_of_augmentation()


def _show_cost_of_augmentation() -> None:
    """Says that the vision cache is off where it would be on without augmentation."""
    config, _ = read_form()
    if config is None or not config.augmentation.changes_pixels:
        return
    from sam3_lora.train.resolve import may_read_vision_cache  # takes a second to import

    if may_read_vision_cache(config):
        st.caption(
            ":material/info: The frozen vision encoder runs in every step, since an image has other pixels each time. "
            "With flips alone it runs once per image (vision cache)."
        )


def _field(
    name: str, problems: dict[str, str], choices: Mapping[Any, str] | None = None, dataset: Dataset | None = None
) -> None:
    """A setting's widget, with a mark where the recipe has a value for it, and what an image size does."""

    def below() -> None:
        show_mark(name)
        if name == image_size_view.SETTING:
            image_size_view.show_effect(dataset)

    field_widget(name, problems, choices, on_change=mark_own, below=below)


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
        if all(same(form_value(f"lora.{field}"), value) for field, value in wanted.items()):
            return name
    return None


def _apply_preset() -> None:
    if chosen := st.session_state[_PRESET]:
        mark_own(*setting_names("lora"))
        fill_form(preset(chosen), setting_names("lora"))
