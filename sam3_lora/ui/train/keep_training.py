"""The switch beside the start button: whether a run goes on when the app is closed."""

from __future__ import annotations

import streamlit as st

from sam3_lora.ui.components.layout import kept_error, show_kept_error
from sam3_lora.ui.preferences import change_preferences, load_preferences

_KEY, _ERROR = "keep-training", "keep-training-error"


def show_switch() -> None:
    """Draws the switch, as the user has left it at any time before."""
    if _KEY not in st.session_state:
        st.session_state[_KEY] = load_preferences().keep_training
    meaning = (
        "On: a run is trained by a process of its own, which goes on when the app or its terminal is closed; this page "
        "shows it again after the next start. Off: closing the app saves the run and stops it."
    )
    st.toggle("Keep training if the app closes", key=_KEY, help=meaning, on_change=_remember, width="content")
    show_kept_error(_ERROR)


def keeps_training() -> bool:
    """Whether a run that is started or resumed now goes on when the app is closed."""
    return bool(st.session_state.get(_KEY, load_preferences().keep_training))


def _remember() -> None:
    with kept_error(_ERROR):
        change_preferences(keep_training=st.session_state[_KEY])
