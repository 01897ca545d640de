"""Low-rank adapters (LoRA): which layers of SAM 3 they target; attaching, counting, saving, loading and merging.

LoRA is Hu et al., 2021 (arXiv 2106.09685); the arithmetic is PEFT's.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn

from sam3_lora.config import AdapterConfig, Component
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.files import atomic_folder, follow_umask
from sam3_lora.model import kept_text
from sam3_lora.model.adapter_files import adapter_base, taught_phrases
from sam3_lora.model.adapter_files.adapter_base import AdapterBase
from sam3_lora.model.adapter_files.find_adapter import find_adapter
from sam3_lora.model.adapter_files.layers import LayerUpdate, peft_config
from sam3_lora.model.adapter_files.saved_adapter import open_adapter
from sam3_lora.model.base_files.architecture import skeleton
from sam3_lora.model.image_size import image_size_of
from sam3_lora.tiles import Tiling

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Sam3Config, Sam3Model

_BYTES_PER_PARAMETER = 4  # adapters are trained and saved in float32
# PEFT still uses deprecated names of transformers: a user cannot act on these warnings.
_without_deprecations = partial(warnings.catch_warnings, action="ignore", category=FutureWarning)
_PREFIXES = {component: f"{component}." for component in get_args(Component)} | {
    "scoring": "dot_product_scoring.",
    "presence_head": "detr_decoder.presence_head.",
}
_MOST_SPECIFIC_FIRST = sorted(_PREFIXES.items(), key=lambda item: len(item[1]), reverse=True)
# Kind of a layer by the last part of its name. CLIP says out_proj; the scoring compares queries with the phrase, so
# its two projections are those of query and key.
_KINDS = {
    "q_proj": "q_proj",
    "query_proj": "q_proj",
    "k_proj": "k_proj",
    "text_proj": "k_proj",
    "v_proj": "v_proj",
    "o_proj": "o_proj",
    "out_proj": "o_proj",
    "fc1": "mlp",
    "fc2": "mlp",
}
_OTHER_MLPS = re.compile(
    r"mask_decoder\.mask_embedder\.layers\.\d|dot_product_scoring\.text_mlp\.layer\d|detr_decoder\.presence_head\.layer\d"
)


@dataclass(frozen=True)
class LoraCount:
    """The size of an adapter."""

    parameters: int
    adapter_bytes: int
    by_component: dict[str, int]  # parameters of each component
    modules: dict[str, int]  # layers changed in each component
    base_parameters: int


@dataclass(frozen=True)
class Layer:
    """A linear layer of SAM 3 that can be adapted."""

    name: str
    component: str
    kind: str
    in_features: int
    out_features: int

    def parameters(self, lora: AdapterConfig) -> int:
        magnitudes = self.out_features if lora.dora else 0
        return lora.rank * (self.in_features + self.out_features) + magnitudes


def target_modules(source: Sam3Config | Sam3Model, lora: AdapterConfig) -> list[str]:
    """Full names of the layers that the settings select, in the model's order.

    Args:
        source: a model, or its architecture alone; no weights are needed.
        lora: components and kinds of layers.

    Raises:
        ConfigError: a component has no layer of the selected kinds; the message names the kinds it has.
    """
    model = source if isinstance(source, nn.Module) else skeleton(source)
    return [layer.name for layer in _selected(model, lora)]


def count(config: Sam3Config, lora: AdapterConfig) -> LoraCount:
    """The size of the adapter that :func:`attach` would add.

    Args:
        config: the architecture; no weights are needed.
        lora: its settings.

    Raises:
        ConfigError: as :func:`target_modules`.
    """
    model = skeleton(config)
    by_component: dict[str, int] = dict.fromkeys(lora.components, 0)
    modules: dict[str, int] = dict.fromkeys(lora.components, 0)
    for layer in _selected(model, lora):
        by_component[layer.component] += layer.parameters(lora)
        modules[layer.component] += 1
    parameters = sum(by_component.values())
    return LoraCount(
        parameters=parameters,
        adapter_bytes=parameters * _BYTES_PER_PARAMETER,
        by_component=by_component,
        modules=modules,
        base_parameters=sum(parameter.numel() for parameter in model.parameters()),
    )


def component_of(parameter: str) -> str | None:
    """The component, as in the settings, of a parameter of the model, by its name; None if it belongs to none."""
    name = parameter.removeprefix("base_model.model.")  # PEFT's prefix
    return next((component for component, prefix in _MOST_SPECIFIC_FIRST if name.startswith(prefix)), None)


def attach(base_model: Sam3Model, lora: AdapterConfig) -> PeftModel:
    """Adds new low-rank layers to a model, in place: they are trainable and float32, the base is frozen.

    The adapter changes no output until it is trained. Its initial weights depend on torch's random state.

    Args:
        base_model: a model without an adapter.
        lora: rank, alpha, dropout, components and kinds of layers.

    Raises:
        ConfigError: as :func:`target_modules`.
    """
    import peft

    assert not adapted_components(base_model), "the base model already has an adapter"
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # PEFT takes floats, too
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=target_modules(base_model, lora),
    )
    with _without_deprecations():
        model = peft.get_peft_model(base_model, settings, autocast_adapter_dtype=True)
    return model.train(base_model.training)


def save(
    peft_model: PeftModel,
    folder: str | Path,
    base_name: str,
    card: str = "",
    *,
    processor: str = "",
    taught: Sequence[str] = (),
    tiles: Tiling | None = None,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> None:
    """Writes the adapter in PEFT's format; an earlier one in the folder is replaced only when the new one is complete.

    Each file is replaced atomically: a process that is killed here leaves the old weights or the new ones.

    Args:
        peft_model: of :func:`attach` or :func:`load`.
        folder: of ``adapter_model.safetensors`` and ``adapter_config.json``; ``base_model.json`` beside them holds the
            image size of the model, the processor and the tiles.
        base_name: the base as the user named it, stored in the adapter's settings.
        card: text of README.md; empty for none.
        processor: as given to :func:`sam3_lora.model.base.load_base`.
        taught: the phrases that the adapter was taught, for ``taught_phrases.json``; without any there is no such file.
        tiles: that the images were cut into; None: none.
        files: further small files by name.

    Raises:
        ModelError: the folder cannot be written.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    peft_model.peft_config[peft_model.active_adapter].base_model_name_or_path = base_name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder, sync=True, update=True) as written:
            # Embeddings are never adapted; with the default "auto", PEFT would query the Hub for the base.
            peft_model.save_pretrained(str(written), save_embedding_layers=False)
            (written / "README.md").unlink(missing_ok=True)  # an empty template
            base: Any = peft_model.get_base_model()
            adapter_base.write(written, AdapterBase(image_size_of(base.config), processor, tiles))
            if taught:
                taught_phrases.write(written, taught)
            if card:
                (written / "README.md").write_text(card, encoding="utf-8")
            for name, content in files.items():
                (written / name).write_bytes(content)
            follow_umask(written)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter cannot be written to {folder}: {error}", "Free disk space or choose another folder"
        ) from error


def load(base_model: Sam3Model, folder: str | Path, *, extend: Component | None = None) -> PeftModel:
    """Adds a saved adapter to a model, in place. The model stays unchanged if the adapter does not fit.

    Args:
        base_model: the model the adapter was trained for, without another adapter.
        folder: what :func:`save` or PEFT wrote, or a run's, see :func:`find_adapter`. Pickled weights (.bin) are
            refused, as they may run code.
        extend: a component whose layers get new low-rank layers, of the adapter's rank and alpha, where the adapter
            has none. They change no output until they are trained; their initial weights depend on torch's random
            state.

    Raises:
        ModelError: missing, half-written, not LoRA, for a base of another shape, or with settings or weights that no
            training gives it.
    """
    from peft import PeftModel, set_peft_model_state_dict

    assert not adapted_components(base_model), "the base model already has an adapter"
    saved = open_adapter(base_model, find_adapter(folder))
    added = [layer.name for layer in adaptable_layers(base_model) if layer.component == extend]
    update = LayerUpdate(saved.settings.r, saved.settings.lora_alpha)
    with _without_deprecations():
        model = PeftModel(base_model, peft_config(saved.settings, dict.fromkeys(added, update) | {**saved.layers}))
        result: Any = set_peft_model_state_dict(model, saved.weights)
    assert not result.unexpected_keys, "the adapter's layers are those of its weights"
    return model.train(base_model.training)


def adapted_components(model: nn.Module) -> frozenset[str]:
    """The components, as in the settings, that this model's adapter changes; empty without one."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = (name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer))
    return frozenset(filter(None, map(component_of, names)))


def set_strength(peft_model: PeftModel, strength: float) -> None:
    """Scales what the adapter adds to every layer: between 0 and 1 the weights lie on the line from base to adapter.

    Args:
        peft_model: a model with an adapter.
        strength: 0 is exactly the base model, 1 exactly the adapter as trained.
    """
    from peft.tuners.lora import LoraLayer

    layers: Any = peft_model.base_model
    if strength == 0:
        layers.disable_adapter_layers()
        return
    adapter = peft_model.active_adapter
    for module in layers.modules():
        if not isinstance(module, LoraLayer):
            continue
        if adapter not in module.lora_magnitude_vector:
            module.set_scale(adapter, strength)
            continue
        # PEFT's scale of a DoRA layer leaves its magnitudes as trained, so that near 0 it is far from the base.
        dora: Any = module.lora_magnitude_vector[adapter]
        if not hasattr(dora, "strength"):
            dora.register_forward_hook(_scale_output)
        dora.strength = strength
    layers.enable_adapter_layers()


def _scale_output(dora: Any, inputs: object, output: Tensor) -> Tensor:
    """The forward hook of a DoRA layer: its output is the difference between the adapted and the base layer."""
    return output if dora.strength == 1 else output * dora.strength


def merge(peft_model: PeftModel) -> Sam3Model:
    """Merges the adapter into the base's weights, in place, and returns the plain model.

    Raises:
        ModelError: the adapter has weights that are not finite, or adds a bias to a layer without one.
    """
    from peft.tuners.lora import LoraLayer

    tuner: Any = peft_model
    in_float32 = all(parameter.dtype == torch.float32 for parameter in tuner.parameters())
    assert in_float32, "weights converted by precision.convert_frozen would be merged with their rounding"
    for name, module in tuner.named_modules():
        if isinstance(module, LoraLayer) and any(module.lora_bias.values()) and module.get_base_layer().bias is None:
            raise ModelError(
                f"The adapter adds a bias to {name.removeprefix('base_model.model.')}, which has none in the base "
                "model, so it cannot be merged",
                "Use it as an adapter, or train it without lora_bias",
            )
    try:
        merged: Sam3Model = tuner.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(
            "The adapter has weights that are not finite, so it cannot be merged",
            "Use the adapter of an earlier step, or train again with a lower learning rate",
        ) from error
    kept_text.forget(merged)
    return merged


def check_fit(config: Sam3Config, folder: str | Path, place: str | None = None) -> None:
    """Checks whether :func:`load` would accept an adapter, from the base's architecture alone.

    Args:
        config: of the base model.
        folder: of the adapter.
        place: what messages call it; its path unless given.

    Raises:
        ModelError: as :func:`load`.
    """
    open_adapter(skeleton(config), find_adapter(folder), place)


def adaptable_layers(model: nn.Module) -> Iterator[Layer]:
    """Every linear layer of a model without an adapter that the settings can select."""
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        component = component_of(name)
        kind = "mlp" if _OTHER_MLPS.fullmatch(name) else _KINDS.get(name.rpartition(".")[2])
        if component and kind:
            yield Layer(name, component, kind, module.in_features, module.out_features)


def _selected(model: nn.Module, lora: AdapterConfig) -> list[Layer]:
    layers = [layer for layer in adaptable_layers(model) if layer.component in lora.components]
    selected = [layer for layer in layers if layer.kind in lora.modules]
    matched = {layer.component for layer in selected}
    if empty := [component for component in lora.components if component not in matched]:
        kinds = {component: dict.fromkeys(x.kind for x in layers if x.component == component) for component in empty}
        raise ConfigError(
            f"lora.modules ({', '.join(lora.modules)}) matches no layer of {', '.join(empty)}",
            "; ".join(f"{name} has {', '.join(has) or 'none'}" for name, has in kinds.items())
            + ": add one to lora.modules, or remove the component from lora.components",
        )
    return selected
