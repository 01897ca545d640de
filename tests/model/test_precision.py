"""The numeric precision of forward passes."""

from __future__ import annotations

import pytest
import torch

from sam3_lora.errors import ConfigError
from sam3_lora.model.precision import autocast, resolve_precision

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_only_on_a_gpu_that_computes_in_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert resolve_precision("auto", GPU) == ("bf16" if native else "fp32")
    assert resolve_precision("auto", CPU) == resolve_precision("auto", torch.device("mps")) == "fp32"


def test_a_named_precision_is_taken_as_it_is() -> None:
    assert [resolve_precision(name, GPU) for name in ("fp32", "bf16", "fp16")] == ["fp32", "bf16", "fp16"]
    assert resolve_precision("bf16", CPU) == "bf16"


@pytest.mark.parametrize(("name", "device"), [("fp16", CPU), ("fp8", GPU)])
def test_a_precision_that_cannot_be_had_is_told(name: str, device: torch.device) -> None:
    with pytest.raises(ConfigError, match=name):
        resolve_precision(name, device)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_matrices_are_multiplied_in_the_precision(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):  # type: ignore[arg-type]
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
