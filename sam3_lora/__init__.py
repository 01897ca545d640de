"""LoRA fine-tuning of SAM 3 on COCO data: data, model, loss, training, prediction, evaluation."""

__version__ = "0.1.0"
