"""Features of phrases, computed once per phrase and kept, for as long as no adapter changes the text encoder.

At SAM 3's size the text encoder has 354 million weights, 1.4 GB in float32, and a phrase's features 33 kB. It is used
where its weights are: they stay in main memory when the rest of the model moves to a GPU, see
:meth:`sam3_lora.model.base.LoadedModel.to`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from itertools import chain
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from sam3_lora.structures import TextFeatures

if TYPE_CHECKING:
    from transformers import Sam3Model

MODULES = ("text_encoder", "text_projection")  # of the model
MAX_PHRASES = 2000  # at SAM 3's size 64 MiB on the device
_kept: WeakKeyDictionary[nn.Module, OrderedDict[Hashable, TextFeatures]] = WeakKeyDictionary()


def is_frozen(model: Sam3Model) -> bool:
    """Whether nothing changes the features of a phrase: neither an adapter of the text encoder nor training."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = [model.get_submodule(name) for name in MODULES]
    return not any(isinstance(module, BaseTunerLayer) for one in modules for module in one.modules()) and not any(
        parameter.requires_grad for one in modules for parameter in one.parameters()
    )


def features_of(
    model: Sam3Model, input_ids: Tensor, attention_mask: Tensor, device: torch.device, state: Hashable = None
) -> TextFeatures:
    """Features of P phrases on a device, without gradients; phrases that are not kept yet are encoded.

    Each is encoded by itself, so that its features do not depend, by their rounding, on what it came with.

    Args:
        model: whose features are kept, until :func:`forget`.
        input_ids: (P, T) int64, in main memory: they are looked at.
        attention_mask: (P, T), there too.
        device: of the features.
        state: names the weights of an adapter of the text encoder; None without one.
    """
    kept = _kept.setdefault(model, OrderedDict())
    found = []
    for ids, mask in zip(input_ids.cpu(), attention_mask.cpu(), strict=True):
        key = (state, ids.numpy().tobytes(), mask.numpy().tobytes())
        features = kept.get(key)
        if features is None:
            features = _encode(model, ids[None], mask[None], in_float32=state is None)
        kept[key] = features.to(device)  # where it is already, mostly
        kept.move_to_end(key)
        found.append(kept[key])
    while len(kept) > MAX_PHRASES:
        kept.popitem(last=False)
    return TextFeatures(torch.cat([one.states for one in found]), torch.cat([one.mask for one in found]))


def forget(model: nn.Module) -> None:
    """Drops what is kept of a model: its text encoder has other weights from now on."""
    _kept.pop(model, None)


def tensors_of(module: nn.Module, model: Sam3Model) -> Iterator[str]:
    """Names in a module, which contains a model, of the text encoder's parameters and buffers."""
    own = {id(x) for name in MODULES for x in _tensors(model.get_submodule(name)).values()}
    return (name for name, tensor in _tensors(module).items() if id(tensor) in own)


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return dict(chain(module.named_parameters(), module.named_buffers()))


def _encode(model: Sam3Model, input_ids: Tensor, attention_mask: Tensor, in_float32: bool) -> TextFeatures:
    """The features of one phrase, (1, T, C) and (1, T); dropout is off."""
    device = model.text_projection.weight.device
    modes = [(module, module.training) for name in MODULES for module in model.get_submodule(name).modules()]
    try:
        for module, _ in modes:
            module.training = False
        # Not in inference mode, whose tensors no training step could use.
        with torch.inference_mode(False), torch.no_grad():
            kind = device.type
            enabled = torch.is_autocast_enabled(kind) and not in_float32
            with torch.autocast(kind, torch.get_autocast_dtype(kind), enabled=enabled):
                states = model.get_text_features(
                    input_ids=input_ids.to(device), attention_mask=attention_mask.to(device)
                ).pooler_output
    finally:
        for module, mode in modes:
            module.training = mode
    return TextFeatures(states, attention_mask.bool())
