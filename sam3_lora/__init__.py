"""LoRA fine-tuning of SAM 3 on COCO data: data, model, loss, training, prediction, evaluation."""

import os

# Without this, idle OpenMP threads spin: beside any other busy program, PyTorch on a CPU becomes many
# times slower. It must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
