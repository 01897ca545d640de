"""Steps by the arrow keys that are never lost, however fast they come."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import streamlit as st

_KEYS = st.components.v2.component(
    "sam3_lora.arrow_keys",
    js=Path(__file__).with_name("arrow_keys.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def arrow_keys(key: str, step: Callable[[int], None]) -> None:
    """Calls step(n) once right was pressed n times more often than left; n may be negative."""
    done = f"{key}-done"  # how far the count of the browser was followed

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
