"""Counts the memory that a computation takes on a CUDA GPU, on fake tensors: without a GPU, weights or arithmetic.

Every storage that is alive is counted, rounded up as CUDA's allocator does. Tensors are fake tensors of the CPU, so
that PyTorch's CPU code runs; where a CUDA GPU keeps other tensors, it is imitated: under autocast more operations
compute in float32 than on a CPU, dropout keeps a mask of one byte per number, and attention keeps nothing of the size
of queries times keys but its bias.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

ALLOCATION = 512  # bytes that CUDA's allocator rounds up to
# Autocast on CUDA, not on a CPU, computes these in float32 (torch's autocast op reference, "CUDA Ops that autocast to
# float32"); those that SAM 3 and the losses use.
FLOAT32_ON_CUDA = frozenset(
    "exp log log2 log1p pow __pow__ rsqrt reciprocal softplus layer_norm group_norm softmax log_softmax sum cumsum "
    "norm linalg_vector_norm upsample_nearest2d upsample_bilinear2d upsample_bicubic2d logsumexp".split()
)


class Tag(NamedTuple):
    """Where a storage was made."""

    part: str
    phase: str
    operation: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Count:
    """Memory of a computation."""

    peak: int  # bytes
    at_peak: Counter[Tag]  # bytes alive at the peak
    reached_in: Tag  # what was allocated when it was reached
    kept: Counter[Tag]  # bytes alive when the backward pass began
    moments: dict[tuple[str, str], int]  # peak by phase and part that computes


class Counting(TorchDispatchMode):
    """Counts the storages that are alive while it is active; :attr:`part` and :attr:`phase` tell what makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.part = self.phase = ""
        self.live = 0
        self._off = False
        self._events: list[tuple[int, Tag | None]] = []  # a storage's key; None where it was freed
        self._sizes: dict[int, int] = {}
        self._alive: dict[int, tuple[int, weakref.ref]] = {}
        self._begun: dict[str, int] = {}  # events before a phase

    def begin(self, phase: str, part: str = "") -> None:
        """A phase of the computation begins."""
        self.phase, self.part = phase, part
        self._begun[phase] = len(self._events)

    def add(self, tensor: Tensor, operation: str = "") -> None:
        """Counts a tensor's storage, if it is new."""
        storage = tensor.untyped_storage()
        if self._off or id(storage) in self._alive:
            return
        key, size = len(self._events), -(-storage.nbytes() // ALLOCATION) * ALLOCATION
        tag = Tag(self.part, self.phase, operation, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        self._events.append((key, tag))
        self._sizes[key] = size
        self.live += size
        self._alive[id(storage)] = key, weakref.ref(storage, self._freer(id(storage)))

    @contextmanager
    def main_memory(self) -> Iterator[None]:
        """A context whose tensors are not counted: they are in main memory."""
        self._off = True
        try:
            yield
        finally:
            self._off = False

    def _freer(self, name: int) -> Callable[[object], None]:
        def free(_: object) -> None:
            key, _reference = self._alive.pop(name)
            self.live -= self._sizes[key]
            self._events.append((key, None))

        return free

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.add(leaf, func._schema.name.removeprefix("aten::"))
        return out

    def count(self, kept_in: str) -> Count:
        """What was counted so far; `kept_in` names the phase at whose beginning :attr:`Count.kept` is taken."""
        live = peak = at = 0
        moments: dict[tuple[str, str], int] = {}
        for position, (key, tag) in enumerate(self._events):
            live += self._sizes[key] if tag else -self._sizes[key]
            if tag and live > moments.get((tag.phase, tag.part), 0):
                moments[tag.phase, tag.part] = live
            if live > peak:
                peak, at = live, position
        reached = self._events[at][1]
        assert reached is not None, "a peak is reached by allocating"
        return Count(peak, self._alive_after(at + 1), reached, self._alive_after(self._begun[kept_in]), moments)

    def _alive_after(self, events: int) -> Counter[Tag]:
        """Bytes alive after so many events, by tag."""
        alive: dict[int, Tag] = {}
        for key, tag in self._events[:events]:
            if tag:
                alive[key] = tag
            else:
                del alive[key]
        sizes: Counter[Tag] = Counter()
        for key, tag in alive.items():
            sizes[tag] += self._sizes[key]
        return sizes


class DeviceRules(TorchFunctionMode):
    """Computes with real tensors as ever, and imitates what CUDA keeps of fake ones: see the module."""

    def __init__(self, imitate_cuda: bool) -> None:
        super().__init__()
        self._imitate_cuda = imitate_cuda

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        if tensors and not any(isinstance(tensor, FakeTensor) for tensor in tensors):
            return _on_host(partial(func, **kwargs), *args)
        if func is Tensor.backward:
            return self._backward(args[0])
        if not self._imitate_cuda:
            return func(*args, **kwargs)
        if name == "scaled_dot_product_attention":
            return _attention(*args, **kwargs)
        if name == "dropout":
            return _dropout(*args, **kwargs)
        if name in FLOAT32_ON_CUDA and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return func(*map(_float32, args), **{key: _float32(value) for key, value in kwargs.items()})
        return func(*args, **kwargs)

    def _backward(self, loss: Tensor) -> None:
        """loss.backward(), with these rules in force where checkpointing computes again."""
        engine: Any = torch.autograd.Variable._execution_engine
        with self:
            gradient = (torch.ones_like(loss),)
            engine.run_backward((loss,), gradient, False, False, (), allow_unreachable=True, accumulate_grad=True)


def _float32(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(map(_float32, value))
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if training and p else input


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *_: Any, **__: Any
) -> Tensor:
    operands = [query, key, value]
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        operands = [operand.to(dtype) for operand in operands]
        if attn_mask is not None and attn_mask.is_floating_point():
            attn_mask = attn_mask.to(dtype)
    out: Tensor = _FusedAttention.apply(*operands, attn_mask)
    return out


class _FusedAttention(torch.autograd.Function):
    """What flash and memory-efficient attention keep: operands, bias, result, and a float32 per query and head."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        batch, heads, length, _ = query.shape
        out = query.new_empty(batch, length, heads, value.shape[-1]).transpose(1, 2)
        normalizer = query.new_empty(batch, heads, length, dtype=torch.float32)
        ctx.save_for_backward(query, key, value, bias, out, normalizer)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, _, normalizer = ctx.saved_tensors
        _workspace = torch.empty_like(normalizer), torch.empty_like(query, dtype=torch.float32)
        wanted = bias is not None and bias.is_floating_point() and ctx.needs_input_grad[3]
        return (
            torch.empty_like(query),
            torch.empty_like(key),
            torch.empty_like(value),
            bias.new_empty(bias.shape) if wanted else None,
        )


@contextmanager
def fake_gpu(cuda: bool = True) -> Iterator[Counting]:
    """A context in which new tensors are fake and counted as on a CUDA GPU.

    Real tensors stay on the host, uncounted: those of numpy arrays, and those made outside of this context. Counts and
    indices, which decide what is computed, have to be such.

    Args:
        cuda: whether CUDA is imitated; without, a CPU's memory is counted.
    """
    counting = Counting()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(torch, "from_numpy", partial(_on_host, torch.from_numpy)))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(DeviceRules(cuda))
        stack.enter_context(counting)
        yield counting


def _on_host(function: Callable[..., Any], *args: Any) -> Any:
    with no_dispatch():
        return function(*args)


def make_fake(module: nn.Module, counting: Counting, part: str, in_main_memory: Collection[nn.Module] = ()) -> None:
    """Gives a module on the meta device fake tensors of the CPU.

    Args:
        module: all of it.
        counting: counts its tensors.
        part: of parameters that are trained; others belong to none.
        in_main_memory: modules inside whose tensors are not counted.
    """
    apart = {id(inner) for outer in in_main_memory for inner in outer.modules()}
    for owner in module.modules():
        with counting.main_memory() if id(owner) in apart else nullcontext():
            for name, parameter in list(owner._parameters.items()):
                if parameter is not None:
                    counting.part = part if parameter.requires_grad else ""
                    fake = torch.empty(parameter.shape, dtype=parameter.dtype)
                    owner._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
            counting.part = ""
            for name, buffer in list(owner._buffers.items()):
                if buffer is not None:
                    owner._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)
