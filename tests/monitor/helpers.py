"""Rows of metrics as a healthy run of full SAM 3 writes them."""

from __future__ import annotations

import math
from typing import Any

from sam3_lora.config import RunConfig

CONFIG = RunConfig().with_settings({"model.base": "facebook/sam3", "data.path": "potholes"})
RAW = {"loss_bbox": 1.0, "loss_giou": 0.8, "loss_ce": 0.05, "presence_loss": 0.2, "loss_mask": 0.3, "loss_dice": 0.8}
WEIGHTS = {"loss_bbox": 5, "loss_giou": 2, "loss_ce": 20, "presence_loss": 20, "loss_mask": 200, "loss_dice": 10}


def row(step: int, factor: float = 1.0, raw: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
    """A step of full SAM 3 as a healthy run shows it, the values times a factor."""
    raw = {name: value * factor for name, value in {**RAW, **(raw or {})}.items()}
    terms = {name: value * WEIGHTS[name] for name, value in raw.items()}
    values = {"lr": 5e-4, "grad_norm": 2.0 + step % 3, "objects": 5, "phrases": 8, "negatives": 4, "epoch": 1}
    return {"kind": "step", "step": step, "total": sum(terms.values()), "terms": terms, "raw": raw, **values, **changes}


def falling(steps: int, **changes: Any) -> list[dict[str, Any]]:
    """Noisy and falling, as losses are."""
    return [row(s, factor=(1 + 3 / (1 + s / 50)) * (1 + 0.3 * math.sin(7 * s)), **changes) for s in range(1, steps + 1)]
