"""The reload proof: a saved adapter, loaded afresh onto a fresh base, must give the same detections."""

from __future__ import annotations

from pathlib import Path

import torch

from sam3_lora.data.samples import Batch
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.model.detector import Detections, Sam3Detector
from sam3_lora.train.memory import free_unused
from sam3_lora.train.setup import Setup

OK = "ok"
# Far below what a person could see; a GPU that adds in another order stays within.
SCORE_TOLERANCE, BOX_TOLERANCE, MASK_TOLERANCE = 1e-3, 1e-3, 1e-2


def verify_reload(setup: Setup, folder: Path) -> str:
    """Compares the trained model with its saved adapter on one image, every query of it.

    The trained model is moved to the processor's memory for it: two models need not fit onto the device.
    Call it when training is over.

    Returns:
        "ok", or in words what differs or why the adapter cannot be loaded.
    """
    device = setup.accelerator.device
    batch = setup.first_batch().to(device)
    trained = _detect(setup.detector.eval(), batch)
    setup.detector.to("cpu")
    free_unused()
    try:
        base = load_base(setup.config.model.base, device=device)
        lora.load(base.model, folder)
    except ModelError as error:
        return str(error)
    return compare(trained, _detect(Sam3Detector(base.model).eval(), batch))


def compare(trained: Detections, loaded: Detections) -> str:
    """ "ok" if two sets of detections are the same for all purposes, else by how much they differ."""
    differences = {
        "scores": (trained.scores - loaded.scores, SCORE_TOLERANCE),
        "boxes": (trained.boxes[-1] - loaded.boxes[-1], BOX_TOLERANCE),
        "masks (logits)": (trained.masks - loaded.masks, MASK_TOLERANCE * float(trained.masks.abs().amax())),
    }
    # Not "above": what is not a number is above nothing.
    found = {name: float(by.abs().amax()) for name, (by, least) in differences.items() if not by.abs().amax() <= least}
    if not found:
        return OK
    return "The saved adapter answers otherwise than the trained model: " + ", ".join(
        f"{name} differ by up to {by:.3g}" for name, by in found.items()
    )


@torch.inference_mode()
def _detect(detector: Sam3Detector, batch: Batch) -> Detections:
    # The class's forward: around that of the trained one accelerate has put the run's precision, whose rounding the
    # loaded one would lack.
    inputs = (batch.pixel_values, batch.input_ids, batch.attention_mask, batch.image_index)
    return Sam3Detector.forward(detector, *inputs).to("cpu")
