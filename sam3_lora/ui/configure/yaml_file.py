"""Settings as YAML: shown, downloaded and uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.config_yaml import parse_yaml, renamed_note, renamed_settings
from sam3_lora.errors import ConfigError
from sam3_lora.ui.components.layout import download, escape, show_error
from sam3_lora.ui.next_run import use_settings

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

_UPLOAD = "config-upload"
_RESULT = "configure-upload-result"  # ConfigError | (file name, old setting name -> new)


def show_yaml(config: RunConfig | None) -> None:
    """The configuration as YAML, with a download. config: None while a setting is wrong."""
    with st.expander("As YAML", icon=":material/code:", key="yaml"):
        if config is None:
            st.caption("Shown when every setting is valid.")
            return
        st.code(config.to_yaml(), language="yaml", height=320)
        download(
            "Download",
            lambda: config.to_yaml(comments=True),
            f"{config.output.name}.yaml",
            "download-config",
            "With a comment on each setting",
        )


def show_upload() -> None:
    """The upload of a YAML file, which fills the form; an invalid file leaves the form as it was."""
    with st.expander("Load settings from a file", icon=":material/upload:", key="load"):
        st.file_uploader(
            "YAML file",
            type=["yaml", "yml"],
            key=_UPLOAD,
            on_change=_load_upload,
            max_upload_size=1,
            label_visibility="collapsed",
        )
        result = st.session_state.get(_RESULT)
        if isinstance(result, ConfigError):
            show_error(result)
        elif result:
            name, renamed = result
            st.success(f"Loaded the settings of {escape(name)}.", icon=":material/check:")
            if renamed:
                st.info(escape(renamed_note(renamed)), icon=":material/info:")


def _load_upload() -> None:
    upload = st.session_state[_UPLOAD]
    st.session_state[_RESULT] = None
    if upload is None:
        return
    try:
        values = parse_yaml(_text(upload), upload.name)
        use_settings(RunConfig.from_dict(values, upload.name))
        st.session_state[_RESULT] = upload.name, renamed_settings(values)
    except ConfigError as error:
        st.session_state[_RESULT] = error


def _text(upload: UploadedFile) -> str:
    """Raises ConfigError if the file is not text."""
    try:
        return upload.getvalue().decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(
            f"Expected YAML text in {upload.name}, but it is a binary file", "Choose a .yaml file"
        ) from None
