"""A learned concept: a few prompt tokens that stand for a word which the model does not know, as a small file."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from sam3_lora.errors import ModelError, explain_os_errors, first_line
from sam3_lora.files import MB, atomic_write, open_regular
from sam3_lora.model.adapter_files.find_adapter import WEIGHTS
from sam3_lora.structures import TextFeatures
from sam3_lora.text import short

if TYPE_CHECKING:
    from transformers import Sam3Model

SUFFIX = ".safetensors"
MAX_TOKENS = 16
_NAME = re.compile(r"[^<>,;\"\x00-\x1f]{1,60}")
_IN_PROMPT = re.compile(r"<([^<>]+)>")
_MAX_BYTES = MB
_MAX_VALUE = 10_000.0  # tokens of text are below 100
_KEY, _TENSOR = "concept", "tokens"


class ConceptCard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a concept says about itself, in the file's metadata."""

    name: Annotated[str, Meta(min_length=1, max_length=60)]
    base: Annotated[str, Meta(max_length=1000)]  # name of the base model
    base_digest: Annotated[str, Meta(max_length=64)]  # see base_digest()
    adapter_digest: Annotated[str, Meta(max_length=64)] = ""  # see adapter_digest(); "" for the base model alone
    phrase: Annotated[str, Meta(max_length=200)] = ""  # that learning began with
    images: Annotated[int, Meta(ge=0)] = 0  # with objects of the concept
    objects: Annotated[int, Meta(ge=0)] = 0
    negatives: Annotated[int, Meta(ge=0)] = 0  # images without the concept
    steps: Annotated[int, Meta(ge=0)] = 0


@dataclass(frozen=True, eq=False)
class Concept:
    """A learned concept.

    Attributes:
        card: what it is and which model it was made for.
        tokens: (K, C) float32, in the place of a phrase's features.
    """

    card: ConceptCard
    tokens: Tensor

    @property
    def name(self) -> str:
        """As it is written in prompts, between < and >."""
        return self.card.name


def check_name(name: str) -> str:
    """A concept's name without spaces around it. Raises ModelError."""
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ModelError(
            f"Expected a name of 1 to 60 characters without < > , ; and quotes, got '{short(name)}'", "Choose another"
        )
    return name


def key_of(name: str) -> str:
    """What names that mean the same concept have in common: prompts are in lower case, hyphens are spaces."""
    return " ".join(name.lower().replace("_", " ").replace("-", " ").split())


def names_in(prompt: str) -> list[str]:
    """The concepts that a prompt names: "old <my crack>" -> ["my crack"]."""
    return [name.strip() for name in _IN_PROMPT.findall(prompt)]


def words_of(prompt: str) -> str:
    """A prompt without its concepts, in single spaces: "old <my crack>" -> "old"."""
    return " ".join(_IN_PROMPT.sub(" ", prompt).split())


def base_digest(model: Sam3Model) -> str:
    """Tells base models apart by weights that no precision changes much and every training does.

    Of the text projection and of the queries, rounded: the same in float32 and in 16 bits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for weights in (_frozen_weight(model.text_projection), model.detr_decoder.query_embed.weight):
        exact = weights.detach().to("cpu", torch.float32)
        scale = exact.abs().max().clamp(min=1e-12)
        digest.update((exact[:64, :64] / scale * 32).round().to(torch.int8).numpy().tobytes())
        digest.update(repr(tuple(exact.shape)).encode())
    return digest.hexdigest()


def _frozen_weight(layer: Any) -> Tensor:
    """The weight of a layer without what an adapter adds to it."""
    weight: Tensor = getattr(layer, "base_layer", layer).weight
    return weight


def adapter_digest(adapter: Path | None) -> str:
    """Tells adapters apart by their weights; "" without one."""
    if adapter is None:
        return ""
    unreadable = explain_os_errors(ModelError, f"The adapter in {adapter} cannot be read", "Check the folder")
    with unreadable, open_regular(adapter / WEIGHTS) as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def features_of_tokens(
    tokens: Tensor, length: int, phrases: int = 1, words: TextFeatures | None = None
) -> TextFeatures:
    """Features of a prompt that consists of a concept's tokens, after those of words if there are any.

    Args:
        tokens: (K, C).
        length: of the prompt, T; at least K. Words that do not fit are cut off.
        phrases: how many times the prompt is repeated, P.
        words: features of one phrase.
    """
    parts = [tokens]
    if words is not None:
        parts.insert(0, words.states[0][words.mask[0]][: length - len(tokens)].to(tokens))
    real = torch.cat(parts)
    states = torch.cat((real, real.new_zeros((length - len(real), real.shape[1]))))
    mask = torch.arange(length, device=real.device) < len(real)
    return TextFeatures(states.expand(phrases, -1, -1), mask.expand(phrases, -1))


def save(concept: Concept, path: Path) -> None:
    """Writes a concept, a few KB. Raises ModelError if it cannot be written."""
    from safetensors.torch import save as to_bytes

    content = to_bytes({_TENSOR: concept.tokens.contiguous()}, {_KEY: msgspec.json.encode(concept.card).decode()})
    with explain_os_errors(ModelError, f"The concept cannot be written to {path}", "Choose another folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)


def load(path: Path) -> Concept:
    """Reads a concept's file.

    Raises:
        ModelError: there is none, or it is damaged or none of this app.
    """
    from safetensors import SafetensorError, safe_open

    copy_again = "Copy the file again from whoever made it"
    unreadable = explain_os_errors(ModelError, f"The concept {path} cannot be read", "Check the path")
    with unreadable, open_regular(path) as file:
        if len(file.read(_MAX_BYTES + 1)) > _MAX_BYTES:
            raise ModelError(f"Expected a concept of a few KB, but {path} is larger", copy_again)
    try:
        with safe_open(str(path), "pt") as opened:
            card = msgspec.json.decode((opened.metadata() or {})[_KEY], type=ConceptCard)
            check_name(card.name)
            tokens = opened.get_tensor(_TENSOR)
    except KeyError:
        raise ModelError(f"The file {path} is no concept of this app", copy_again) from None
    except (SafetensorError, msgspec.MsgspecError, ValueError, RuntimeError, TypeError) as error:
        raise ModelError(f"The concept {path} is damaged: {first_line(error)}", copy_again) from None
    if tokens.dtype != torch.float32 or tokens.dim() != 2 or not 1 <= len(tokens) <= MAX_TOKENS:
        raise ModelError(f"The concept {path} has {tokens.dtype} numbers of shape {tuple(tokens.shape)}", copy_again)
    if not torch.isfinite(tokens).all() or float(tokens.abs().max()) > _MAX_VALUE:
        raise ModelError(f"The concept {path} has numbers that no prompt can have", copy_again)
    return Concept(card, tokens)
