"""The size of the square images that SAM 3 takes: which ones fit a base model, and how it is set before loading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sam3_lora.errors import ModelError

if TYPE_CHECKING:
    from transformers import Sam3Config, Sam3Processor


def image_size_of(config: Sam3Config) -> int:
    """Side in pixels of the square that images are resized to."""
    size = config.image_size
    return size if isinstance(size, int) else size[0]


def image_size_step(config: Sam3Config) -> int:
    """Sizes that fit are multiples of it: the pixels that one attention window of the vision encoder covers.

    336 for SAM 3 (patches of 14 pixels, windows of 24 x 24 patches), 84 for the demo. In between, transformers fills
    the last window of each row and column up with zeros, to which the patches attend: the model never saw this.
    """
    window: int = _vision(config).backbone_config.window_size
    return _patch_size(config) * max(window, 1)


def with_image_size(config: Sam3Config, image_size: int | None) -> Sam3Config:
    """Sets the image size of an architecture, in place, and returns it.

    No weight depends on the size: position embeddings are tiled, and the rotary ones of layers with global attention
    are computed when the model is built, scaled so that they span what they spanned in training.

    Args:
        config: of the base model.
        image_size: side in pixels; None leaves the base's own.

    Raises:
        ModelError: the size does not fit; it names the nearest ones that do.
    """
    if image_size is None or image_size == image_size_of(config):
        return config
    step = image_size_step(config)
    if image_size < step or image_size % step:
        lower = image_size // step * step
        sizes = f"{lower} or {lower + step}" if lower > 0 else str(step)
        raise ModelError(
            f"Expected an image size that is a multiple of {step} for this base model, but got {image_size}",
            f"Choose {sizes}, or leave it empty for the base's own {image_size_of(config)}",
        )
    vision = _vision(config)
    vision.image_size = image_size
    patches = image_size // _patch_size(config)
    sides = [int(patches * scale) for scale in vision.scale_factors[: len(vision.backbone_feature_sizes)]]
    vision.backbone_feature_sizes = [[side, side] for side in sides]
    return config


def resize_processor(processor: Sam3Processor, config: Sam3Config) -> None:
    """Makes a processor resize images, boxes and masks as a model expects them, in place."""
    from transformers.image_utils import SizeDict

    size = image_size_of(config)
    finest = int(size // _patch_size(config) * _vision(config).scale_factors[0])
    images = processor.image_processor
    images.size, images.mask_size = SizeDict(height=size, width=size), SizeDict(height=finest, width=finest)
    processor.target_size = size


def _vision(config: Sam3Config) -> Any:
    return config.vision_config  # a Sam3VisionConfig once the configuration is made, which its type does not say


def _patch_size(config: Sam3Config) -> int:
    size: int | list[int] = _vision(config).backbone_config.patch_size
    return size if isinstance(size, int) else size[0]
