"""The choice of how large images are cut into tiles, on the pages that predict."""

from __future__ import annotations

import streamlit as st

from sam3_lora.config.fields import MAX_TILE, MIN_TILE
from sam3_lora.model.image_size import image_size_of
from sam3_lora.predict.tiled.choice import TilesChoice
from sam3_lora.tiles import Tiling
from sam3_lora.ui import resources

AS_TRAINED, WHOLE, TILES = "As trained", "Whole", "In tiles"
_USUAL_SIDE = 1008  # pixels: SAM 3's image size


def choose_tiles(key: str, base: str) -> None:
    """Draws the choice; :func:`chosen_tiles` has it.

    Args:
        key: of the choice, and its name in the page's address.
        base: the base model, whose image size is proposed as the tiles' side.
    """
    kind = st.selectbox(
        "Large images",
        (AS_TRAINED, WHOLE, TILES),
        key=key,
        bind="query-params",
        persist_state="session",
        help="The model sees an image at a fixed size, where small objects of a large image vanish. In tiles it looks "
        "at one part after the other, and objects that several parts show become one. As trained: as the run of the "
        "adapter cut its images; whole without an adapter.",
    )
    if kind == TILES:
        st.number_input(
            "Side of a tile in pixels",
            MIN_TILE,
            MAX_TILE,
            _proposed_side(base),
            key=f"{key}-side",
            bind="query-params",
            persist_state="session",
            help="Images that are no larger are not cut. Each tile takes as long as an image.",
        )


def chosen_tiles(key: str, base: str) -> TilesChoice:
    """What was chosen, also before :func:`choose_tiles` draws it."""
    kind = st.session_state.get(key, AS_TRAINED)
    if kind == TILES:
        return Tiling(int(st.session_state.get(f"{key}-side") or _proposed_side(base)))
    return None if kind == WHOLE else "predictor"


def _proposed_side(base: str) -> int:
    architecture = resources.get_architecture(base)
    return _USUAL_SIDE if architecture is None else image_size_of(architecture)


def address_of(key: str, tiles: TilesChoice) -> dict[str, str]:
    """What a link to a page has of its choice."""
    if tiles == "predictor":
        return {}
    return {key: WHOLE} if tiles is None else {key: TILES, f"{key}-side": str(tiles.size)}


def tiles_in_words(tiles: TilesChoice) -> str:
    """ "in tiles of 1008 pixels", "whole"; "" as trained."""
    if tiles == "predictor":
        return ""
    return "whole" if tiles is None else f"in tiles of {tiles.size} pixels"
