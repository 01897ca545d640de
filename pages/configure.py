"""The configure page: one run's settings as a form, what they cost, YAML in and out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import PRESETS, TEXT_ENCODER_NOTE, RunConfig, preset
from sam3_lora.errors import ConfigError
from sam3_lora.ui.components.forms import field_widget, fill_form, form_values, setting_names
from sam3_lora.ui.components.layout import download, page, show_error
from sam3_lora.ui.configure.adapter_summary import show_adapter
from sam3_lora.ui.next_run import next_run, use_settings

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

# What a first run needs, with the labels that need more words than the setting's name.
ESSENTIAL = {
    "data.path": "Dataset",
    "model.base": "Base model",
    "lora.components": "Components to adapt",
    "lora.rank": None,
    "training.epochs": None,
    "training.batch_size": None,
    "training.learning_rate": None,
    "output.name": "Name of the run",
}
# Further settings whose own names say too little.
LABELS = {
    "data.image_dir": "Further folder of images",
    "data.default_phrase": "Word for objects without a category",
    "data.category_phrases": "Words for the categories",
    "training.patience": "Patience (0: never ends early)",
    "model.adapter": "Adapter to start from",
}
# Everything else stands in expanders, by section.
FURTHER = {
    "data": "Data and prompts",
    "lora": "LoRA layers",
    "training": "Training",
    "model": "Model and memory",
    "loss": "Loss weights",
    "output": "Output",
}
PRESET_KEY = "preset"
UPLOAD_KEY = "config-upload"
UPLOAD_RESULT = "configure-upload-result"  # ConfigError | file name

_STICKY = """<style>
[data-testid="stColumn"]:has(.st-key-config-summary) { position: sticky; top: 4.5rem; align-self: flex-start; }
</style>"""


def main() -> None:
    with page("Configure", "Choose what is trained and how. Every value has a default that works."):
        config, found = next_run()
        form, summary = st.columns([5, 3], gap="large")
        with form:
            show_form(found)
        with summary, st.container(key="config-summary"):
            st.html(_STICKY)
            show_summary(config, found)


def show_form(found: dict[str, str]) -> None:
    def essential(name: str) -> None:
        field_widget(name, found, ESSENTIAL[name])

    left, right = st.columns(2)
    with left:
        essential("data.path")
    with right:
        essential("model.base")
    show_presets()
    essential("lora.components")
    warn_about_text_encoder()
    numbers = ("lora.rank", "training.epochs", "training.batch_size", "training.learning_rate")
    for column, name in zip(st.columns(len(numbers)), numbers, strict=True):
        with column:
            essential(name)
    essential("output.name")

    for section, title in FURTHER.items():
        names = [name for name in setting_names(section) if name not in ESSENTIAL]
        wrong = sum(name in found for name in names)
        label = f"{title} :red-badge[{wrong} to correct]" if wrong else title
        with st.expander(label, expanded=bool(wrong), key=f"section-{section}"):
            st.caption(RunConfig.model_fields[section].annotation.__doc__)
            columns = st.columns(2)
            for index, name in enumerate(names):
                with columns[index % 2]:
                    field_widget(name, found, LABELS.get(name))


def show_presets() -> None:
    """The presets set the LoRA section; none is marked once the section has been changed by hand."""
    st.session_state[PRESET_KEY] = matching_preset()
    chosen = st.segmented_control(
        "Preset", list(PRESETS), format_func=str.capitalize, key=PRESET_KEY, on_change=apply_preset
    )
    st.caption(PRESETS[chosen][0] if chosen else "Your own choice of components, modules and rank.")


def matching_preset() -> str | None:
    values = form_values()
    for name in PRESETS:
        wanted = preset(name).lora.model_dump()
        if all(_same(values[f"lora.{field}"], value) for field, value in wanted.items()):
            return name
    return None


def _same(given: object, wanted: object) -> bool:
    """Equal; the order of a list of choices means nothing."""
    return sorted(given) == sorted(wanted) if isinstance(given, list) else given == wanted


def apply_preset() -> None:
    chosen = st.session_state[PRESET_KEY]
    if chosen:
        fill_form(preset(chosen), setting_names("lora"))


def warn_about_text_encoder() -> None:
    if "text_encoder" in (form_values()["lora.components"] or []):
        st.warning(TEXT_ENCODER_NOTE, icon=":material/warning:")


def show_summary(config: RunConfig | None, found: dict[str, str]) -> None:
    with st.container(border=True):
        if config is None:
            count = f"{len(found)} settings need" if len(found) > 1 else "One setting needs"
            st.markdown(f":red[:material/error:] {count} correcting before a run can start.")
        else:
            show_adapter(config)
        if st.button(
            "Go to training",
            type="primary",
            icon=":material/arrow_forward:",
            icon_position="right",
            width="stretch",
            key="go-to-training",
            disabled=config is None,
            help=None if config else "Correct the marked settings first.",
        ):
            st.switch_page("pages/train.py")
    show_yaml(config)


def show_yaml(config: RunConfig | None) -> None:
    with st.expander("As YAML", icon=":material/code:", key="yaml"):
        if config is None:
            st.caption("Shown again as soon as every setting is right.")
        else:
            st.code(config.to_yaml(), language="yaml", height=320)
            download(
                "Download",
                lambda: config.to_yaml(comments=True),
                f"{config.output.name}.yaml",
                "application/yaml",
                "download-config",
                "With each setting's meaning as a comment",
            )
    with st.expander("Load settings from a file", icon=":material/upload:", key="load"):
        st.file_uploader(
            "YAML file",
            type=["yaml", "yml"],
            key=UPLOAD_KEY,
            on_change=take_upload,
            max_upload_size=1,
            label_visibility="collapsed",
        )
        result = st.session_state.get(UPLOAD_RESULT)
        if isinstance(result, ConfigError):
            show_error(result)
        elif result:
            st.success(f"The form shows the settings of {result}.", icon=":material/check:")


def take_upload() -> None:
    """Fills the form from the uploaded file; a wrong file leaves it as it was."""
    upload = st.session_state[UPLOAD_KEY]
    st.session_state[UPLOAD_RESULT] = None
    if upload is None:
        return
    try:
        use_settings(RunConfig.from_yaml(_text(upload), source=upload.name))
        st.session_state[UPLOAD_RESULT] = upload.name
    except ConfigError as error:
        st.session_state[UPLOAD_RESULT] = error


def _text(upload: UploadedFile) -> str:
    try:
        return upload.getvalue().decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(
            f"Expected YAML text in {upload.name}, but it is a binary file", "Choose a .yaml file"
        ) from None


main()
