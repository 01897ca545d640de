"""Trains the low-rank layers of the presence head on pairs that are computed once, and switches between two heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sam3_lora.errors import TrainingError
from sam3_lora.loss.terms import presence_term
from sam3_lora.model.decoder import presence_logits
from sam3_lora.predict.predictor import Predictor
from sam3_lora.train.refusal.pairs import Pairs

if TYPE_CHECKING:
    from transformers import Sam3Model

LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-2
# Pairs of each kind in a step (see ImagePrompts). Twice as many with an object as without: the adapter is surer of the
# images that it was trained on than of others, and a head trained on as many of both missed objects there.
PER_KIND = (384, 64, 64, 64)
Weights = dict[str, Tensor]


def head_parameters(model: Sam3Model) -> dict[str, nn.Parameter]:
    """The low-rank layers of the presence head, by name."""
    parameters = model.detr_decoder.presence_head.named_parameters()
    return {name: parameter for name, parameter in parameters if ".lora_" in name}


def weights_of(model: Sam3Model) -> Weights:
    """A copy of the head's low-rank layers."""
    return {name: parameter.detach().clone() for name, parameter in head_parameters(model).items()}


@contextmanager
def with_weights(model: Sam3Model, weights: Weights) -> Iterator[None]:
    """Gives the head other low-rank layers, and its own afterwards."""
    own = weights_of(model)
    _set(model, weights)
    try:
        yield
    finally:
        _set(model, own)


def train_head(
    predictor: Predictor, pairs: Pairs, steps: int, seed: int, progress: Callable[[float], None] = lambda share: None
) -> None:
    """Trains the head, in place, with the presence term of the project's own loss, summed over decoder layers.

    Args:
        predictor: with the adapter at strength 1.
        pairs: of any number of images.
        steps: of AdamW, with a learning rate that falls to 0.
        seed: of the pairs that each step takes.
        progress: called with the share done before each step; an exception that it raises ends the training.

    Raises:
        TrainingError: the loss is not finite.
    """
    decoder = predictor.detector.base.detr_decoder
    parameters = list(head_parameters(predictor.detector.base).values())
    by_kind = [((pairs.kind == kind).nonzero().squeeze(1), count) for kind, count in enumerate(PER_KIND)]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.requires_grad_(True)
    for step in range(steps):
        progress(step / steps)
        drawn = [of[torch.randint(len(of), (count,), generator=generator)] for of, count in by_kind if len(of)]
        rows = torch.cat(drawn).to(pairs.tokens.device)
        with predictor.autocast():
            logits = presence_logits(decoder, pairs.tokens[rows])  # (B, L)
        wanted = pairs.wanted[rows]
        loss = torch.stack([presence_term(*layer) for layer in zip(logits.T, wanted.T, strict=True)]).sum()
        if not loss.isfinite():
            raise TrainingError(
                "The presence head cannot be trained: its loss is not finite", "Repair the adapter of an earlier step"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    for parameter in parameters:
        parameter.requires_grad_(False)


@torch.no_grad()
def _set(model: Sam3Model, weights: Weights) -> None:
    for name, parameter in head_parameters(model).items():
        parameter.copy_(weights[name])
