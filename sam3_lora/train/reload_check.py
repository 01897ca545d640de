"""The reload check: the saved adapter, loaded onto a fresh base model, must give the same detections."""

from __future__ import annotations

from pathlib import Path

import torch

from sam3_lora.data.samples import Batch
from sam3_lora.errors import ModelError
from sam3_lora.model import lora
from sam3_lora.model.base import load_base
from sam3_lora.model.detector import Detections, Sam3Detector
from sam3_lora.model.precision import autocast, convert_frozen
from sam3_lora.train.memory import free_unused
from sam3_lora.train.setup import Setup

OK = "ok"
# Far below what a person could see; a GPU that adds in another order stays within.
SCORE_TOLERANCE, BOX_TOLERANCE, MASK_TOLERANCE = 1e-3, 1e-3, 1e-2


def verify_reload(setup: Setup, folder: Path) -> str:
    """Compares the detections of the trained model and of its saved adapter on one image, query by query.

    Call it when training is over: the trained model is moved to the CPU, so that two models need not fit on the device.

    Args:
        setup: the run, trained.
        folder: the saved adapter.

    Returns:
        "ok", or a sentence: what differs, or why the adapter cannot be loaded.
    """
    device, precision = setup.accelerator.device, setup.config.training.precision
    batch = setup.data.first_batch().to(device)
    with autocast(device, precision):
        trained = _detect(setup.model.detector.eval(), batch)
    setup.model.detector.to("cpu")
    free_unused()
    try:
        base = load_base(**setup.config.model.loading)
        lora.load(base.model, folder)
        convert_frozen(base.model, precision)  # as in training: the same operations, and so the same rounding
        base.to(device)
    except ModelError as error:
        return str(error)
    with autocast(device, precision):
        return compare(trained, _detect(Sam3Detector(base.model).eval(), batch))


def compare(trained: Detections, loaded: Detections) -> str:
    """ "ok" if two sets of detections are equal within the tolerances, else a sentence with the differences."""
    assert trained.masks is not None and loaded.masks is not None, "a forward pass makes all masks"
    differences = {
        "scores": (trained.scores - loaded.scores, SCORE_TOLERANCE),
        "boxes": (trained.boxes[-1] - loaded.boxes[-1], BOX_TOLERANCE),
        "masks (logits)": (trained.masks - loaded.masks, MASK_TOLERANCE * float(trained.masks.abs().amax())),
    }
    largest = {name: (float(by.abs().amax()), tolerance) for name, (by, tolerance) in differences.items()}
    # Not ">": a NaN is above nothing.
    failed = {name: by for name, (by, tolerance) in largest.items() if not by <= tolerance}
    if not failed:
        return OK
    return "The saved adapter gives other detections than the trained model: " + ", ".join(
        f"{name} differ by up to {by:.3g}" for name, by in failed.items()
    )


@torch.inference_mode()
def _detect(detector: Sam3Detector, batch: Batch) -> Detections:
    found: Detections = detector(*batch.inputs)
    return found.to("cpu")
