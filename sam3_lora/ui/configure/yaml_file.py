"""Settings as YAML: shown, downloaded and uploaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from sam3_lora.config import RunConfig
from sam3_lora.config.yaml_text import parse_yaml, renamed_note, renamed_settings
from sam3_lora.errors import ConfigError
from sam3_lora.ui.components.layout import download, escape, kept_error, show_kept_error
from sam3_lora.ui.next_run import use_settings

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

_UPLOAD = "config-upload"
_PROBLEM = "config-upload-problem"
_LOADED = "config-upload-loaded"  # file name, and the old names of settings in it -> new


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
        show_kept_error(_PROBLEM)
        if loaded := st.session_state.get(_LOADED):
            name, renamed = loaded
            st.success(f"Loaded the settings of {escape(name)}.", icon=":material/check:")
            if renamed:
                st.info(escape(renamed_note(renamed)), icon=":material/info:")


def _load_upload() -> None:
    upload = st.session_state[_UPLOAD]
    st.session_state[_LOADED] = None
    with kept_error(_PROBLEM):
        if upload is None:
            return
        values = parse_yaml(_text(upload), upload.name)
        use_settings(RunConfig.from_dict(values, upload.name))
        st.session_state[_LOADED] = upload.name, renamed_settings(values)


def _text(upload: UploadedFile) -> str:
    """Raises ConfigError if the file is not text."""
    try:
        return upload.getvalue().decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(
            f"Expected YAML text in {upload.name}, but it is a binary file", "Choose a .yaml file"
        ) from None
