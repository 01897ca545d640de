"""Which layers an adapter's settings select, with their ranks and alphas, as PEFT selects them, but in bounded time.

PEFT gives regular expressions of the settings to Python's ``re``, which may take for ever and stops all threads
meanwhile. Here RE2 reads them, in a time linear in the length of a name, and PEFT is given names.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from sam3_lora.errors import ModelError
from sam3_lora.model.adapter_files.find_adapter import SETTINGS
from sam3_lora.model.adapter_files.settings import COPY_AGAIN, AdapterSettings
from sam3_lora.text import short_repr

if TYPE_CHECKING:
    from peft import LoraConfig

T = TypeVar("T", int, float)
_Match = Callable[[str], Any]
_SECONDS = 1.0  # of this thread on the processor; the patterns of real adapters take milliseconds
_ANY_LAYER = re.compile(r".*?\.[^.]*\.(?P<idx>\d+)\.")  # PEFT's own, for layers_to_transform without layers_pattern
_OTHERWISE = ("{,", "[:")  # Python's re reads x{,3} as x{0,3} and [[:alpha:]] as single characters, RE2 does not
# PEFT compares each with each layer, and Python keeps 512 compiled patterns.
_MAX_VALUES = 200
_FIX = (
    "Give {setting} in its {file} the names of the layers instead; look-around, back references, possessive "
    "quantifiers and more than 1000 repetitions are not supported"
)


@dataclass(frozen=True)
class LayerUpdate:
    """The low-rank update of one layer."""

    rank: int
    alpha: float


def select_layers(model: nn.Module, settings: AdapterSettings, place: str) -> dict[str, LayerUpdate]:
    """The modules that the settings select, whatever their type, in the model's order.

    Args:
        model: the base model; weights on the meta device are enough.
        settings: of the adapter.
        place: what messages call the adapter.

    Raises:
        ModelError: a regular expression cannot be read, or takes too long.
    """
    names = [name for name, _ in model.named_modules() if name]
    patterns = _Patterns(place)
    try:
        if isinstance(settings.target_modules, str) and settings.target_modules.lower() == "all-linear":
            linear = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
            selected = [name for name in names if name in linear or _ends_with(name, linear)]
        else:
            selected = _targets(names, settings, patterns)
        if settings.exclude_modules:
            is_excluded = _chosen(settings.exclude_modules, patterns, "exclude_modules")
            selected = [name for name in selected if not is_excluded(name)]
        ranks = _by_pattern(selected, settings.rank_pattern or {}, settings.r, patterns, "rank_pattern")
        alphas = _by_pattern(selected, settings.alpha_pattern or {}, settings.lora_alpha, patterns, "alpha_pattern")
    finally:
        patterns.forget()
    for setting, values in (("rank_pattern", ranks), ("alpha_pattern", alphas)):
        if (count := len(set(values.values()))) > _MAX_VALUES:
            raise ModelError(f"The {SETTINGS} in {place} has {count} different values in {setting}", COPY_AGAIN)
    return {name: LayerUpdate(ranks[name], alphas[name]) for name in selected}


def peft_config(settings: AdapterSettings, layers: Mapping[str, LayerUpdate]) -> LoraConfig:
    """What PEFT is given: the names of the layers, and nothing else from the file that it would interpret."""
    from peft import LoraConfig

    return LoraConfig(
        base_model_name_or_path=settings.base_model_name_or_path,
        inference_mode=True,
        r=settings.r,
        lora_alpha=settings.lora_alpha,  # type: ignore[arg-type]  # PEFT takes floats, too
        target_modules=_exactly(layers),
        rank_pattern=_by_names({name: layer.rank for name, layer in layers.items()}, settings.r),
        alpha_pattern=_by_names({name: layer.alpha for name, layer in layers.items()}, settings.lora_alpha),
        lora_dropout=settings.lora_dropout,
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        lora_bias=settings.lora_bias,
    )


class _Patterns:
    """The regular expressions of one adapter, which together have a bounded time."""

    def __init__(self, place: str) -> None:
        self._place, self._end = place, time.thread_time() + _SECONDS

    def compile(self, setting: str, pattern: str, around: str, *, whole: bool = False, groups: bool = False) -> _Match:
        """A function that matches names from their start.

        Args:
            setting: for messages.
            pattern: as in the settings.
            around: what PEFT writes around it; "%s" is the pattern.
            whole: match to the end of the name.
            groups: the match has groups; without them it is faster.
        """
        import re2

        options = re2.Options()
        options.log_errors, options.never_capture = False, not groups
        if other := next((text for text in _OTHERWISE if text in pattern), None):
            raise self._unreadable(setting, pattern, f"'{other}' is ambiguous")
        try:
            compiled = re2.compile(around.replace("%s", pattern), options)
        except (re2.error, UnicodeEncodeError) as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error, re2.error) else "no valid text"
            raise self._unreadable(setting, pattern, reason) from None
        match = compiled.fullmatch if whole else compiled.match

        def bounded(name: str) -> Any:
            if time.thread_time() > self._end:
                raise self._unreadable(setting, pattern, "comparing it with the layers' names takes too long")
            return match(name)

        return bounded

    def forget(self) -> None:
        """Frees the memory of the compiled patterns, which RE2 keeps."""
        import re2

        re2.purge()

    def _unreadable(self, setting: str, pattern: str, reason: str) -> ModelError:
        return ModelError(
            f"The adapter in {self._place} has a regular expression in {setting} that cannot be used: "
            f"{short_repr(pattern)} ({short_repr(reason)[1:-1]})",
            _FIX.format(setting=setting, file=SETTINGS),
        )


def _ends_with(name: str, endings: Iterable[str] | set[str]) -> bool:
    """Whether a name, or the part of it after one of its dots, is one of the endings."""
    parts = name.split(".")
    return any(".".join(parts[start:]) in endings for start in range(len(parts)))


def _chosen(modules: str | list[str], patterns: _Patterns, setting: str) -> _Match:
    """Whether target_modules or exclude_modules choose a name: a pattern for all of it, or a list of its endings."""
    if isinstance(modules, str):
        return patterns.compile(setting, modules, "%s", whole=True)
    endings = set(modules)
    return lambda name: _ends_with(name, endings)


def _targets(names: list[str], settings: AdapterSettings, patterns: _Patterns) -> list[str]:
    """The names that target_modules, layers_to_transform and layers_pattern select."""
    modules = settings.target_modules
    assert modules is not None, "read_settings refuses it"
    chosen = _chosen(modules, patterns, "target_modules")
    targets = [name for name in names if chosen(name)]
    indices = settings.layers_to_transform
    if indices is None or indices == []:
        return targets
    wanted = {indices} if isinstance(indices, int) else set(indices)
    given = settings.layers_pattern or []
    around = r"(?:^|.*?\.)%s\.(?P<idx>\d+)\."
    layer_patterns = [given] if isinstance(given, str) else given
    matches = [patterns.compile("layers_pattern", pattern, around, groups=True) for pattern in layer_patterns]

    def is_wanted(name: str) -> bool:
        match = next(filter(None, (match(name) for match in matches or [_ANY_LAYER.match])), None)
        return match is not None and match["idx"] is not None and int(match["idx"]) in wanted

    return [name for name in targets if name in modules or is_wanted(name)]  # a full name is taken in any case


def _by_pattern(names: list[str], values: dict[str, T], default: T, patterns: _Patterns, setting: str) -> dict[str, T]:
    """Name -> the value of the first pattern that matches the end of it from a dot on, or the default."""
    compiled = [(patterns.compile(setting, key, r"(.*\.)?(%s)$"), value) for key, value in values.items()]
    return {name: next((value for match, value in compiled if match(name)), default) for name in names}


def _by_names(values: dict[str, T], default: T) -> dict[str, T]:
    """PEFT's rank_pattern or alpha_pattern, with one pattern for all names that have the same value."""
    groups: dict[T, list[str]] = {}
    for name, value in values.items():
        if value != default:
            groups.setdefault(value, []).append(name)
    return {_exactly(names): value for value, names in groups.items()}


def _exactly(names: Iterable[str]) -> str:
    """For PEFT: these names and no others; a list of names would also mean those that end with one."""
    return f"^(?:{'|'.join(map(re.escape, names))})$"
