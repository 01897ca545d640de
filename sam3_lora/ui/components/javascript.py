"""Components written in JavaScript: their files lie beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.components.v2 import ComponentRenderer


def component(name: str, html: str | None = None) -> ComponentRenderer:
    """Registers a component.

    Args:
        name: of its files: NAME.js and, for a component with an element of its own, NAME.css.
        html: of its element; None without one.
    """
    path = Path(__file__).with_name(name)
    css = path.with_suffix(".css").read_text(encoding="utf-8") if html else None
    js = path.with_suffix(".js").read_text(encoding="utf-8")
    return st.components.v2.component(f"sam3_lora.{name}", html=html, css=css, js=js, isolate_styles=False)
