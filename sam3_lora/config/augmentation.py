"""The settings of augmentation: how training images and their prompts are changed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sam3_lora.config.fields import Section

Flip = Literal["none", "horizontal", "both"]


class AugmentationConfig(Section):
    """Random changes of each training image with its objects, and of its prompts: other ones in every epoch."""

    flip: Flip = Field("horizontal", title="Flips")
    """Random flips, each with probability 0.5: 'horizontal' left to right, 'both' also upside down (aerial views),
    'none' if orientation matters."""
    scale_min: float = Field(1.0, ge=0.2, le=1, title="Smallest scale")
    """The image fills from this share of the model's input, in width and height, up to all of it; the rest is black. 1
    for always all of it."""
    crop_min: float = Field(1.0, ge=0.2, le=1, title="Smallest crop")
    """The part of the image that is kept, around one of its objects: from this share of its width and height up to all
    of it. 1 for no crop."""
    rotation: float = Field(0.0, ge=0, le=45, title="Rotation (degrees)")
    """The image is rotated by up to this many degrees, either way, unless an object in it has a box, but no mask."""
    color_jitter: float = Field(0.0, ge=0, le=0.9, title="Color jitter")
    """Brightness, contrast and saturation each change by up to this share, up or down."""
    hue: float = Field(0.0, ge=0, le=0.5, title="Hue")
    """Colors change by up to this share of the color circle; 0 where color tells objects apart."""
    boxes_added: float = Field(0.0, ge=0, le=1, title="Boxes added to words")
    """Share of the phrases with objects that are asked with a box around one of them, too, so that prompts of exemplar
    boxes are learned."""
    word_dropped: float = Field(0.0, ge=0, le=1, title="Words replaced by boxes")
    """Share of the phrases with objects that are asked with a box around one of them instead of the word."""

    @property
    def changes_pixels(self) -> bool:
        """Whether an image has other pixels each time: more than flips."""
        return bool(min(self.scale_min, self.crop_min) < 1 or self.rotation or self.color_jitter or self.hue)
