"""The switch that routes by phrase, and the phrases that an adapter was taught, which the user may change."""

from __future__ import annotations

import streamlit as st

from sam3_lora.data.phrase_list import join_phrases
from sam3_lora.predict.routing import Routing
from sam3_lora.text import first_names
from sam3_lora.ui import adapters
from sam3_lora.ui.adapters import ModelChoice
from sam3_lora.ui.components.layout import escape

ROUTE = "route"  # key of the switch, and its name in the page's address
LINKED = "taught-of-link"  # str: the taught phrases of the link that opened the page, until an adapter takes them
_LISTED = 12  # phrases named below the controls


def choose(model: ModelChoice) -> Routing | None:
    """Draws the switch, and with it the taught phrases; None where the adapter answers everything.

    Raises:
        ModelError: the phrases stored with the adapter cannot be read.
    """
    if model.folder is None:
        return None
    wanted = st.toggle(
        "Route by phrase",
        key=ROUTE,
        bind="query-params",
        persist_state="session",
        help="Phrases that the adapter was taught, their plurals and close wordings are answered by the adapter, "
        "all others by the base model.",
    )
    if not wanted:
        return None
    _edit(model)
    return adapters.routing_of(model)


def explain(model: ModelChoice, routing: Routing | None) -> None:
    """Says which phrases the adapter answers, if routing is switched on, or that nobody knows them."""
    if routing is not None:
        names = escape(first_names(routing.taught, _LISTED))
        st.caption(f":material/alt_route: Routed by phrase. The adapter answers {names}.")
    elif model.folder is not None and st.session_state.get(ROUTE):
        st.caption(
            ":orange[:material/warning:] This adapter does not know which phrases it was taught, so it answers all. "
            "Type them under *Options* to route."
        )


def _edit(model: ModelChoice) -> None:
    """Draws the field of the phrases; a text that was never changed is that of the adapter."""
    key = adapters.taught_key(model)
    linked = st.session_state.pop(LINKED, None)
    if linked is not None:
        st.session_state[key] = linked
    elif key not in st.session_state:
        st.session_state[key] = join_phrases(adapters.taught_phrases(model))
    st.text_area(
        "Phrases that the adapter answers",
        key=key,
        persist_state="session",
        placeholder="pothole, crack",
        help="Separated by commas; a phrase that contains a comma in quotes. Kept for this adapter in this tab.",
    )
