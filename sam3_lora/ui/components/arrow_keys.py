"""Arrow keys as steps, without losing any that are pressed quickly."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import streamlit as st

from sam3_lora.ui.components.javascript import component

_KEYS = component("arrow_keys")


def arrow_keys(key: str, step: Callable[[int], None]) -> None:
    """Calls back for the arrow keys.

    Args:
        key: of the component.
        step: called with the presses of right minus those of left since the last call.
    """
    done = f"{key}-done"  # the browser's count at the last call

    def follow() -> None:
        count = st.session_state[key]["count"]
        by = int(count) - st.session_state.get(done, 0)
        st.session_state[done] = int(count)
        step(by)

    session = st.session_state.setdefault(f"{key}-session", secrets.token_hex(8))
    _KEYS(
        key=key,
        data={"count": st.session_state.get(done, 0), "session": session},
        default={"count": st.session_state.get(done, 0)},
        on_count_change=follow,
        height=0,
    )
