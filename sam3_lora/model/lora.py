"""Low-rank adapters on SAM 3: which layers they change, attaching, counting, saving, loading and merging them.

LoRA is Hu et al., 2021 (arXiv 2106.09685); all of the arithmetic is PEFT's.
"""

from __future__ import annotations

import copy
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from sam3_lora.config import AdapterConfig
from sam3_lora.errors import ConfigError, ModelError
from sam3_lora.model import adapter_files

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import Sam3Config, Sam3Model

_BYTES_PER_PARAMETER = 4  # adapters are trained and saved in float32
_PREFIXES = {
    "vision_encoder": "vision_encoder.",
    "text_encoder": "text_encoder.",
    "geometry_encoder": "geometry_encoder.",
    "detr_encoder": "detr_encoder.",
    "detr_decoder": "detr_decoder.",
    "mask_decoder": "mask_decoder.",
    "scoring": "dot_product_scoring.",
}
# A layer's last name tells its kind. CLIP says out_proj; the scoring compares queries with the phrase,
# so its two projections play the parts of query and key.
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
_OTHER_MLPS = re.compile(r"mask_decoder\.mask_embedder\.layers\.\d|dot_product_scoring\.text_mlp\.layer\d")


@dataclass(frozen=True)
class LoraCount:
    """What an adapter will hold. ``by_component`` counts its parameters, ``modules`` the layers it changes."""

    parameters: int
    adapter_bytes: int
    by_component: dict[str, int]
    modules: dict[str, int]
    base_parameters: int


@dataclass(frozen=True)
class _Layer:
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
    """Full names of the layers that the settings choose, in the model's order.

    Args:
        source: a model, or its architecture alone; no weights are needed.
        lora: components and kinds of layers.

    Raises:
        ConfigError: a component has no layer of the chosen kinds; it names the kinds it has.
    """
    model = source if isinstance(source, nn.Module) else _skeleton(source)
    return [layer.name for layer in _chosen(model, lora)]


def count(config: Sam3Config, lora: AdapterConfig) -> LoraCount:
    """Counts what :func:`attach` would add, from the architecture alone. Raises ConfigError as target_modules."""
    model = _skeleton(config)
    by_component = dict.fromkeys(lora.components, 0)
    modules = dict.fromkeys(lora.components, 0)
    for layer in _chosen(model, lora):
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
    """The component, as in the settings, that a parameter of the model belongs to, by its name; None without one."""
    name = parameter.removeprefix("base_model.model.")  # what PEFT puts in front
    return next((component for component, prefix in _PREFIXES.items() if name.startswith(prefix)), None)


def attach(base_model: Sam3Model, lora: AdapterConfig) -> PeftModel:
    """Puts fresh low-rank layers into a model, in place: the base frozen, they trainable and in float32.

    The adapter changes nothing until it is trained. Its first weights follow torch's random state.

    Raises:
        ConfigError: as :func:`target_modules`.
    """
    import peft

    assert not _carries_adapter(base_model), "the base model already carries an adapter"
    settings = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        target_modules=target_modules(base_model, lora),
    )
    with _without_deprecations():
        model = peft.get_peft_model(base_model, settings, autocast_adapter_dtype=True)
    return model.train(base_model.training)


def save(peft_model: PeftModel, folder: str | Path, base_name: str, card: str = "") -> None:
    """Writes the adapter in PEFT's format; an earlier one in the folder is replaced only once the new one is whole.

    Files are replaced one by one, the weights at once: a process that is killed here leaves the old weights
    or the new ones, never none.

    Args:
        folder: where ``adapter_model.safetensors`` and ``adapter_config.json`` go.
        base_name: the base as the user named it, kept in the adapter's settings.
        card: what README.md is to say about it; there is none if empty.

    Raises:
        ModelError: the folder cannot be written.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    peft_model.peft_config[peft_model.active_adapter].base_model_name_or_path = base_name
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
            written = Path(temporary) / "new"
            # No embedding is ever adapted; left to find out by itself, PEFT asks the Hub for the base.
            peft_model.save_pretrained(written, save_embedding_layers=False)
            (written / "README.md").unlink(missing_ok=True)  # an empty form, not a description
            if card:
                (written / "README.md").write_text(card, encoding="utf-8")
            if not folder.exists():
                written.rename(folder)
                return
            for file in written.iterdir():
                file.replace(folder / file.name)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter cannot be written to {folder}: {error}", "Free disk space or choose another folder"
        ) from error


def load(base_model: Sam3Model, folder: str | Path, *, trainable: bool = False) -> PeftModel:
    """Puts a saved adapter into a model, in place. The model stays untouched if the adapter does not fit.

    Args:
        base_model: the model the adapter was trained for, without another adapter in it.
        folder: what :func:`save` or PEFT wrote. Pickled weights (.bin) are refused: they may run code.
        trainable: whether the adapter is to be trained on.

    Raises:
        ModelError: missing, empty, half-written, not finite, not LoRA, or for a base of another shape.
    """
    import peft
    from safetensors import SafetensorError

    assert not _carries_adapter(base_model), "the base model already carries an adapter"
    folder = Path(folder)
    settings = adapter_files.read_settings(folder)
    try:
        adapter_files.check_fit(base_model, settings, folder)
        adapter_files.check_weights(folder)
        with _without_deprecations():
            model = peft.PeftModel.from_pretrained(
                base_model, str(folder), config=settings, is_trainable=trainable, torch_device=str(base_model.device)
            )
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter in {folder} is damaged or half-written: {error}", "Copy it again or train a new one"
        ) from error
    except ModelError:
        raise
    except Exception as error:  # wrong values in its settings make PEFT stumble in ways without number
        raise ModelError(
            f"The adapter in {folder} is damaged or does not fit the base model",
            "Choose the base model it was trained for",
        ) from error
    return model.train(base_model.training)


def adapted_components(model: nn.Module) -> frozenset[str]:
    """The components, as in the settings, that an adapter in this model changes; none without one."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    names = [name for name, module in model.named_modules() if isinstance(module, BaseTunerLayer)]
    return frozenset(key for key, prefix in _PREFIXES.items() if any(name.startswith(prefix) for name in names))


def set_strength(peft_model: PeftModel, strength: float) -> None:
    """Scales what the adapter adds to every layer: 0 is exactly the base, 1 exactly the adapter as trained."""
    from peft.tuners.lora import LoraLayer

    layers = peft_model.base_model
    if strength == 0:
        layers.disable_adapter_layers()
        return
    for module in layers.modules():
        if isinstance(module, LoraLayer):
            module.set_scale(peft_model.active_adapter, strength)
    layers.enable_adapter_layers()


def merge(peft_model: PeftModel) -> Sam3Model:
    """Adds the adapter to the base's weights for good, in place; what remains is a plain model.

    Raises:
        ModelError: the adapter holds numbers that are not finite.
    """
    try:
        return peft_model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise ModelError(
            "The adapter holds numbers that are not finite, so it cannot be merged",
            "Take the adapter of an earlier step, or train again with a lower learning rate",
        ) from error


def check_fit(config: Sam3Config, folder: str | Path) -> None:
    """Says from the architecture alone, without its weights, whether :func:`load` would take an adapter.

    Raises:
        ModelError: as :func:`load`.
    """
    from safetensors import SafetensorError

    folder = Path(folder)
    settings = adapter_files.read_settings(folder)
    try:
        adapter_files.check_fit(_skeleton(config), settings, folder)
        adapter_files.check_weights(folder)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"The adapter in {folder} is damaged or half-written: {error}", "Copy it again or train a new one"
        ) from error


def _skeleton(config: Sam3Config) -> Sam3Model:
    """The model without numbers in it: on the meta device, in less than a second and no memory."""
    from transformers import Sam3Model

    with torch.device("meta"):
        return Sam3Model(copy.deepcopy(config))


def _layers(model: nn.Module) -> Iterator[_Layer]:
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        component = next((key for key, prefix in _PREFIXES.items() if name.startswith(prefix)), None)
        kind = "mlp" if _OTHER_MLPS.fullmatch(name) else _KINDS.get(name.rpartition(".")[2])
        if component and kind:
            yield _Layer(name, component, kind, module.in_features, module.out_features)


def _chosen(model: nn.Module, lora: AdapterConfig) -> list[_Layer]:
    layers = [layer for layer in _layers(model) if layer.component in lora.components]
    chosen = [layer for layer in layers if layer.kind in lora.modules]
    matched = {layer.component for layer in chosen}
    if empty := [component for component in lora.components if component not in matched]:
        kinds = {component: dict.fromkeys(x.kind for x in layers if x.component == component) for component in empty}
        raise ConfigError(
            f"lora.modules ({', '.join(lora.modules)}) matches no layer of {', '.join(empty)}",
            "; ".join(f"{name} has {', '.join(has) or 'none at all'}" for name, has in kinds.items())
            + ": add one to lora.modules, or take the component out of lora.components",
        )
    return chosen


def _carries_adapter(model: nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return any(isinstance(module, BaseTunerLayer) for module in model.modules())


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """PEFT still asks transformers for names that are on their way out: nothing a user could act on."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
