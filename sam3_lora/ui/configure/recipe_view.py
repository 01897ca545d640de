"""What the recipe advises: its line above the settings, and a mark beneath each that it has a value for."""

from __future__ import annotations

from typing import Any

import streamlit as st

from sam3_lora.config import DEMO
from sam3_lora.recipes import UNCONFIRMED, Recipe
from sam3_lora.text import plural
from sam3_lora.ui.components.forms import label_of, setting_label
from sam3_lora.ui.components.layout import escape
from sam3_lora.ui.recipe import current_recipe, filled_settings, own_settings, use_recipe


def show_recipe() -> None:
    """Draws which recipe there is, what it has filled, and the button that uses all of it.

    The app begins with the demo's recipe: there is nothing to say until the user has changed a value.
    """
    recipe = current_recipe()
    if recipe is None:
        return
    own = own_settings(recipe)
    if recipe.base == DEMO and not own:
        return
    doubt = "" if recipe.confirmed else f" {UNCONFIRMED}."
    with st.container(border=True, key="recipe", gap="xxsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{recipe.title}**", width="stretch")
            with st.popover("Values and sources", type="tertiary", key="recipe-values"):
                _show_values(recipe)
            if own:
                st.button("Use the recipe", key="use-recipe", on_click=use_recipe, args=(recipe, tuple(recipe.values)))
        st.caption(f"{_state(own)}{doubt}")


def _state(own: tuple[str, ...]) -> str:
    """What the last change has filled, and how many values are the user's own."""
    filled = filled_settings()
    said = f"{plural(len(filled), 'value')} filled in for this base and dataset. " if filled else ""
    return said + (f"{plural(len(own), 'value')} of your own." if own else "All its values are in use.")


def _show_values(recipe: Recipe) -> None:
    rows = [(setting_label(each.setting), shown(each.value), escape(each.source)) for each in recipe.advice]
    lines = ["| " + " | ".join(f":small[{cell}]" for cell in row) + " |" for row in rows]
    st.markdown("\n".join(["| :small[Setting] | :small[Recipe] | :small[Source] |", "| --- | --- | --- |", *lines]))


def show_mark(name: str) -> None:
    """Draws whose value a setting has, the recipe's or the user's own; nothing where the recipe has none."""
    recipe = current_recipe()
    advice = next((each for each in recipe.advice if each.setting == name), None) if recipe else None
    if recipe is None or advice is None:
        return
    if name not in own_settings(recipe):
        if recipe.base != DEMO:
            st.badge("recipe", color="gray", help=advice.reason)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.badge("yours", color="blue", help=f"The recipe has {shown(advice.value)}. {advice.reason}")
        st.button("Reset", key=f"reset-{name}", type="tertiary", on_click=use_recipe, args=(recipe, (name,)))


def shown(value: Any) -> str:
    """A value as a person reads it: "0.0001", "DETR encoder, scoring"."""
    if isinstance(value, list):
        return ", ".join(label_of(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else escape(str(value))
