"""The base model's answers for the phrases of an image, in half precision, as a file of the run."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sam3_lora.files import atomic_file, read_file
from sam3_lora.structures import Detections, SoftTargets

MIN_FOUND = 0.45  # score from which the base is taken to detect an object: best for the demo, near to 0.5
MIN_MASK_SCORE = 0.3  # of a query whose mask is kept
MAX_MASKS = 16  # per image: at SAM 3's size 2.7 MB
_MAX_FILE_BYTES = 1_000_000_000
_DIGEST_BYTES = 32
_NAMES = ("logits", "boxes", "presence", "masks", "phrase_index", "query_index")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answers:
    """What the base model predicts for W phrases of one image."""

    soft: SoftTargets  # half precision, in main memory

    @property
    def found(self) -> list[bool]:
        """For each phrase, whether the base detects something."""
        scores = self.soft.logits[-1].float().sigmoid() * self.soft.presence[-1].float().sigmoid().unsqueeze(-1)
        return (scores.amax(-1) >= MIN_FOUND).tolist()

    def of(self, phrases: Sequence[int]) -> SoftTargets:
        """The answers for some of the phrases, by their places, in this order."""
        soft, rows = self.soft, [(self.soft.phrase_index == phrase).nonzero()[:, 0] for phrase in phrases]
        chosen = torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)
        places = torch.repeat_interleave(torch.tensor([len(each) for each in rows], dtype=torch.int64))
        columns = list(phrases)
        return SoftTargets(
            logits=soft.logits[:, columns],
            boxes=soft.boxes[:, columns],
            presence=soft.presence[:, columns],
            masks=soft.masks[chosen],
            phrase_index=places,
            query_index=soft.query_index[chosen],
        )


def answers_of(chunks: Sequence[Detections]) -> Answers:
    """The answers in detections with mask heads of the phrases of one image, a few phrases each."""
    scores = torch.cat([chunk.scores for chunk in chunks]).cpu()  # (W, Q)
    kept = scores >= MIN_MASK_SCORE
    if int(kept.sum()) > MAX_MASKS:
        kept &= scores >= scores.flatten().topk(MAX_MASKS).values[-1]
    masks, first = [], 0
    for chunk in chunks:
        rows = kept[first : first + chunk.logits.shape[1]]
        phrase_index, query_index = rows.nonzero().unbind(1)
        assert chunk.mask_head is not None
        masks.append(chunk.mask_head(phrase_index, query_index).half().cpu())
        first += len(rows)
    phrase_index, query_index = kept.nonzero().unbind(1)

    def joined(values: Sequence[Tensor | None]) -> Tensor:
        return torch.cat([value.half().cpu() for value in values if value is not None], dim=1)

    return Answers(
        SoftTargets(
            logits=joined([chunk.logits for chunk in chunks]),
            boxes=joined([chunk.boxes for chunk in chunks]),
            presence=joined([chunk.presence for chunk in chunks]),
            masks=torch.cat(masks),
            phrase_index=phrase_index,
            query_index=query_index,
        )
    )


def together(answers: Sequence[SoftTargets]) -> SoftTargets:
    """The answers for the phrases of several images as one, in this order."""
    firsts = [0]
    for each in answers:
        firsts.append(firsts[-1] + each.logits.shape[1])
    return SoftTargets(
        logits=torch.cat([each.logits for each in answers], dim=1),
        boxes=torch.cat([each.boxes for each in answers], dim=1),
        presence=torch.cat([each.presence for each in answers], dim=1),
        masks=torch.cat([each.masks for each in answers]),
        phrase_index=torch.cat([each.phrase_index + first for each, first in zip(answers, firsts, strict=False)]),
        query_index=torch.cat([each.query_index for each in answers]),
    )


def file_name(image: str, words: Sequence[str]) -> str:
    """The name of an image's file of answers for these phrases."""
    key = "\0".join((image, *words)).encode("utf-8", "surrogatepass")
    return f"{hashlib.sha256(key).hexdigest()[:40]}.safetensors"


def write_answers(path: Path, answers: Answers) -> None:
    """Writes a file, whole or not at all. Raises OSError."""
    content = save({name: getattr(answers.soft, name).contiguous() for name in _NAMES})
    with atomic_file(path) as file:
        file.write(hashlib.sha256(content).digest() + content)


def read_answers(path: Path) -> Answers | None:
    """The answers in a file; None if it is missing or damaged."""
    try:
        data = read_file(path, _MAX_FILE_BYTES)
        digest, content = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("its content does not match its digest")
        tensors = load(content)
        return Answers(SoftTargets(**{name: tensors[name] for name in _NAMES}))
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        _log.warning("%s is damaged, and the base model is asked again: %s", path, error)
        return None
