"""Settings that go together: presets of the adapter."""

from __future__ import annotations

from typing import Any

from sam3_lora.config import RunConfig
from sam3_lora.errors import ConfigError

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "minimal": (
        "Attention layers of the DETR decoder, and scoring: trains fastest, forgets least.",
        {
            "lora.components": ["detr_decoder", "scoring"],
            "lora.modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
            "lora.rank": 8,
            "lora.alpha": 16.0,
        },
    ),
    "fusion": (
        "What joins image and phrase, and decides what is there: DETR encoder and decoder, scoring, presence head and "
        "mask decoder. The vision encoder stays as it is.",
        {"lora.components": ["detr_encoder", "detr_decoder", "presence_head", "mask_decoder", "scoring"]},
    ),
    "balanced": ("Attention and MLP layers of all components but the text encoder: the default.", {}),
    "maximum": (
        "Like balanced with twice the rank, for large or very unusual datasets: forgets most.",
        {"lora.rank": 32, "lora.alpha": 64.0},
    ),
}


def preset(name: str) -> RunConfig:
    """The default configuration with a preset's settings. Raises ConfigError for an unknown name."""
    if name not in PRESETS:
        raise ConfigError(f"There is no preset '{name}'", f"Choose one of {', '.join(PRESETS)}")
    return RunConfig().with_settings(PRESETS[name][1])
