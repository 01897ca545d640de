"""Components written in JavaScript: their files lie beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from streamlit.components.v2 import ComponentRenderer


def component(name: str, html: str | None = None, uses: str = "") -> ComponentRenderer:
    """Registers a component.

    Args:
        name: of its files: NAME.js and, for a component with an element of its own, NAME.css if there is one.
        html: of its element; None without one.
        uses: the name of files that several components share, which come before its own.
    """
    names = [part for part in (uses, name) if part]
    css = "\n".join(filter(None, (_text(f"{part}.css") for part in names))) if html else None
    js = "\n".join(_text(f"{part}.js") for part in names)
    return st.components.v2.component(f"sam3_lora.{name}", html=html, css=css, js=js, isolate_styles=False)


def _text(file: str) -> str:
    path = Path(__file__).with_name(file)
    return path.read_text(encoding="utf-8") if path.suffix != ".css" or path.is_file() else ""
