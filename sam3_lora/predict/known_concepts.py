"""The concepts that a predictor knows, and the features of prompts that name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from sam3_lora.errors import ModelError, Sam3LoraError
from sam3_lora.model.concept import Concept, base_digest, features_of_tokens, key_of, names_in, words_of
from sam3_lora.structures import VISUAL, TextFeatures

if TYPE_CHECKING:
    from transformers import Sam3Model


class KnownConcepts:
    """Concepts by their names.

    Attributes:
        adapter_digest: of the adapter that the model has, see :func:`sam3_lora.model.concept.adapter_digest`.

    Args:
        model: the base model.
    """

    def __init__(self, model: Sam3Model) -> None:
        self._model = model
        self._by_key: dict[str, Concept] = {}
        self.adapter_digest = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Of all concepts, without < and >."""
        return tuple(one.name for one in self._by_key.values())

    def add(self, concept: Concept) -> None:
        """Makes a concept known; one of the same name is replaced. Prompts without concepts stay as they are.

        Raises:
            ModelError: it was made for another model.
        """
        card = concept.card
        if card.base_digest != base_digest(self._model):
            raise ModelError(
                f"The concept '{card.name}' was made for another base model, '{card.base}'",
                "Load that one, or learn it again from its examples",
            )
        if card.adapter_digest not in ("", self.adapter_digest):
            raise ModelError(
                f"The concept '{card.name}' was made on top of another adapter", "Load that one, or learn it again"
            )
        self._by_key[key_of(card.name)] = concept

    def get(self, name: str) -> Concept:
        """A concept by its name. Raises Sam3LoraError without one."""
        if (found := self._by_key.get(key_of(name))) is None:
            known = ", ".join(f"<{one}>" for one in self.names) or "none"
            raise Sam3LoraError(f"There is no concept '{name}'; known: {known}", "Check its name, or learn it")
        return found

    def split(self, phrases: Sequence[str]) -> tuple[tuple[str, ...], dict[bool, tuple[str, ...]]]:
        """Phrases without concepts; and the others, by whether one of their concepts was learned on an adapter.

        A concept is answered by what it was learned on: the base model, or the model with its adapter.

        Raises:
            Sam3LoraError: there is no such concept.
        """
        on_adapter = {
            phrase: any(self.get(name).card.adapter_digest for name in names)
            for phrase in phrases
            if (names := names_in(phrase))
        }
        words = tuple(phrase for phrase in phrases if phrase not in on_adapter)
        return words, {
            wanted: tuple(phrase for phrase, is_so in on_adapter.items() if is_so is wanted) for wanted in (False, True)
        }

    def features(self, phrases: tuple[str, ...], encode: Callable[[tuple[str, ...]], TextFeatures]) -> TextFeatures:
        """Features of phrases, each with its concepts after its words.

        Args:
            phrases: P of them.
            encode: gives the features of words.

        Raises:
            Sam3LoraError: there is no such concept.
        """
        if not any(names_in(phrase) for phrase in phrases):
            return encode(phrases)
        parts = [self._features_of(phrase, encode) for phrase in phrases]
        return TextFeatures(torch.cat([one.states for one in parts]), torch.cat([one.mask for one in parts]))

    def _features_of(self, phrase: str, encode: Callable[[tuple[str, ...]], TextFeatures]) -> TextFeatures:
        words, names = words_of(phrase), names_in(phrase)
        features = encode((words or VISUAL,))
        if not names:
            return features
        length = features.states.shape[1]
        tokens = torch.cat([self.get(name).tokens for name in names])[:length]
        return features_of_tokens(tokens.to(features.states), length, words=features if words else None)
