"""Counts, without a GPU, what would make the host wait for one."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# Operations whose result depends on data in a way that the host must know: a number, or a shape.
WAITING = {
    "aten._local_scalar_dense.default",  # item(), float(), bool(), int()
    "aten.nonzero.default",
    "aten.masked_select.default",
    "aten.equal.default",
    "aten.repeat_interleave.Tensor",  # without output_size
    "aten._unique2.default",
    "aten.unique_consecutive.default",
    "aten.bincount.default",
}
PACKAGES = ("sam3_lora", "transformers", "accelerate", "peft", "torch/nn/utils", "torch/optim")
# Here the CPU looks at values that a GPU does not: torch.quantile checks its argument on a CPU only.
CPU_ONLY = ("torch.quantile(",)


class HostWaits(TorchDispatchMode):
    """Counts inside a `with` block, as if all tensors but some were on a GPU.

    Args:
        on_host: tensors that stay on the host: reading them costs nothing.

    Attributes:
        waits: how often each place waits: reads numbers, or makes a shape of them.
        uploads: how often each place makes a tensor of the host's numbers. They wait unless their memory is pinned.
    """

    def __init__(self, on_host: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._on_host = {tensor.untyped_storage().data_ptr() for tensor in on_host}
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()
        self._patches = [
            mock.patch.object(Tensor, name, self._counting(getattr(Tensor, name)))
            for name in ("tolist", "cpu", "numpy", "__array__")
        ]

    def __enter__(self) -> HostWaits:
        for patch in self._patches:
            patch.start()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for patch in self._patches:
            patch.stop()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        name = str(func)
        by_bool = name == "aten.index.Tensor" and any(i is not None and i.dtype == torch.bool for i in args[1])
        if (name in WAITING or by_bool) and not self._is_free(args[0]):
            self._add(self.waits, name.split(".")[1])
        if name == "aten.lift_fresh.default":
            self._add(self.uploads, "torch.tensor")
        return func(*args, **(kwargs or {}))

    def _is_free(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self._on_host

    def _counting(self, original: Callable) -> Callable:
        def counted(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
            if not self._is_free(tensor):
                self._add(self.waits, original.__name__)
                self._on_host.add(tensor.untyped_storage().data_ptr())  # what was read once is on the host
            return original(tensor, *args, **kwargs)

        return counted

    def _add(self, counter: Counter[str], what: str) -> None:
        frames = [f for f in traceback.extract_stack() if any(f"/{package}/" in f.filename for package in PACKAGES)]
        line = frames[-1].line or "" if frames else ""
        if not any(known in line for known in CPU_ONLY):
            place = f"{frames[-1].filename.rsplit('site-packages/')[-1]}:{frames[-1].lineno} {line}" if frames else "?"
            counter[f"{what}: {place}"] += 1
