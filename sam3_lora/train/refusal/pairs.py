"""What the presence head reads for each pair of image and phrase, computed once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from sam3_lora.model.detector import Sam3Detector
from sam3_lora.predict.predictor import Predictor
from sam3_lora.train.refusal.phrases import ImagePrompts


@dataclass(frozen=True)
class Pairs:
    """N pairs of an image and a phrase, L decoder layers.

    Attributes:
        tokens: (N, L, C) float32, normed presence tokens: what the head reads.
        wanted: (N, L) float32, the probability in [0, 1] that the phrase is in the image.
        kind: (N,) int64, a number for each field of ImagePrompts.
    """

    tokens: Tensor
    wanted: Tensor
    kind: Tensor

    def __len__(self) -> int:
        return len(self.kind)


@contextmanager
def presence_tokens(detector: Sam3Detector) -> Iterator[list[Tensor]]:
    """A list that what the presence head reads is added to: (P, C) for each decoder layer of each forward pass."""
    taken: list[Tensor] = []
    hook = detector.base.detr_decoder.presence_head.register_forward_pre_hook(
        lambda _, arguments: taken.append(arguments[0].float())
    )
    try:
        yield taken
    finally:
        hook.remove()


def pairs_of(predictor: Predictor, prompts: ImagePrompts) -> Pairs | None:
    """The pairs of the image that was set last; None if there is nothing to ask.

    Present and absent phrases are wanted as 1 and 0; of the words that the base model knows, what the base model
    itself says, so that the head does not unlearn them.

    Args:
        predictor: with the adapter at strength 1.
        prompts: of this image.
    """
    base: dict[str, Tensor] = {}
    if prompts.known:
        predictor.strength = 0.0
        base = {phrase: presence for phrase, (presence, _) in _ask(predictor, prompts.known).items()}
        predictor.strength = 1.0
    groups = (prompts.present, prompts.absent, prompts.foreign, prompts.known)
    asked = {phrase: kind for kind, phrases in enumerate(groups) for phrase in phrases}
    if not asked:
        return None
    found = _ask(predictor, tuple(asked))
    tokens = torch.stack([found[phrase][1] for phrase in asked])
    fixed = tokens.new_tensor([1.0, 0.0, 0.0])
    wanted = [base[phrase] if phrase in base else fixed[kind].expand(tokens.shape[1]) for phrase, kind in asked.items()]
    return Pairs(tokens, torch.stack(wanted), torch.tensor(list(asked.values())))


def _ask(predictor: Predictor, phrases: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """Phrase -> presence (L,) in [0, 1], and what the head reads (L, C)."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    with presence_tokens(predictor.detector) as tokens:
        for chunk in predictor.prompt_in_chunks(phrases, threshold=1.0):
            presence = chunk.detections.presence
            assert presence is not None, "only the one-to-many half has none"
            # Outside of inference mode copies are tensors that can be trained with.
            rows = zip(presence.float().sigmoid().T, torch.stack(tokens, 1), strict=True)
            found |= dict(zip(chunk.results, rows, strict=True))
            tokens.clear()
    return found


def together(parts: Sequence[Pairs]) -> Pairs:
    """The pairs of several images, at least one."""
    return Pairs(*(torch.cat([getattr(part, name) for part in parts]) for name in ("tokens", "wanted", "kind")))
