"""Which images are cut into tiles, for as long as something is predicted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeAlias

from sam3_lora.tiles import Tiling

if TYPE_CHECKING:
    from sam3_lora.predict.predictor import Predictor

# How large images are cut. None: not at all; "predictor": as it does by itself, which is as its adapter was trained.
TilesChoice: TypeAlias = Tiling | Literal["predictor"] | None


@contextmanager
def cut_as(predictor: Predictor, tiles: TilesChoice) -> Iterator[None]:
    """Has a predictor cut large images like this, and as before afterwards."""
    before = predictor.tiles
    predictor.tiles = before if tiles == "predictor" else tiles
    try:
        yield
    finally:
        predictor.tiles = before
