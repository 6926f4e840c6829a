"""Contain untrusted plugin code: copies of victims, seeded random state, and a check of what it changed."""

from __future__ import annotations

import copy
import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.random import bit_generator
from torch import Tensor, nn
from torch.backends import cuda, cudnn, mkldnn
from torch.nn.modules import module as modules

from vbench.core.errors import BadInput, VbenchError
from vbench.core.plugins import reason
from vbench.core.processes import memory_errors
from vbench.core.types import Named


class ProcessState:
    """Settings of torch, NumPy and Python that change what others compute, print or store."""

    def __init__(self) -> None:
        self._before = _read()

    def put_back(self) -> list[str]:
        """Restore every setting that has changed; returns their names."""
        changed = _different(self._before, _read())
        for name in changed:
            _SETTINGS[name][1](self._before[name])
        return changed


def _read() -> dict[str, Any]:
    return {name: read() for name, (read, _) in _SETTINGS.items()}


def _different(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, value in before.items() if value is not after[name] and value != after[name]]


def _attribute(owner: object, name: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    return partial(getattr, owner, name), partial(setattr, owner, name)


def _deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        # The newer settings are in use, which are read one by one below.
        return None


def _set_matmul_precision(precision: str | None) -> None:
    if precision is not None:
        torch.set_float32_matmul_precision(precision)


def _device() -> torch.device:
    try:
        return torch.get_default_device()
    except AttributeError:
        # torch 2.8, after a default was taken back.
        return torch.device("cpu")


def _set_device(device: torch.device) -> None:
    # A default device that is set slows down every torch call, even if it is the CPU.
    torch.set_default_device(None if device.type == "cpu" else device)


def _autocast(device: str) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    def read() -> tuple[bool, torch.dtype]:
        return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

    def put(state: tuple[bool, torch.dtype]) -> None:
        torch.set_autocast_enabled(device, state[0])
        torch.set_autocast_dtype(device, state[1])

    return read, put


_HOOKS = [
    found for name, found in vars(modules).items() if name.startswith("_global_") and isinstance(found, dict)
]


def _hooks() -> list[dict[int, Any]]:
    return [dict(found) for found in _HOOKS]


def _put_hooks(before: list[dict[int, Any]]) -> None:
    for found, hooks in zip(_HOOKS, before, strict=True):
        found.clear()
        found.update(hooks)


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "whether gradients are recorded": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (_device, _set_device),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic algorithms": (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _deterministic,
    ),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's float32 matmul precision": (_matmul_precision, _set_matmul_precision),
    "autocast on the CPU": _autocast("cpu"),
    "autocast on the GPU": _autocast("cuda"),
    "hooks on all modules": (_hooks, _put_hooks),
    "how tiny numbers are rounded": (lambda: sys.float_info.min / 2 == 0, torch.set_flush_denormal),
    "NumPy's handling of errors": (np.geterr, lambda state: np.seterr(**state)),
    "the working folder": (os.getcwd, os.chdir),
    "standard output": _attribute(sys, "stdout"),
    "standard error": _attribute(sys, "stderr"),
}

# Not every version of torch has all of these.
_SETTINGS |= {
    f"torch.backends.{where}.{name}": _attribute(owner, name)
    for where, owner, names in (
        ("cudnn", cudnn, ("enabled", "benchmark", "deterministic", "allow_tf32", "benchmark_limit")),
        ("cudnn.conv", getattr(cudnn, "conv", None), ("fp32_precision",)),
        ("cuda.matmul", cuda.matmul, ("allow_tf32", "fp32_precision")),
        (
            "cuda.matmul",
            cuda.matmul,
            ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction"),
        ),
        ("mkldnn", mkldnn, ("enabled", "deterministic")),
        ("mkldnn.matmul", getattr(mkldnn, "matmul", None), ("fp32_precision",)),
        ("mkldnn.conv", getattr(mkldnn, "conv", None), ("fp32_precision",)),
    )
    for name in names
    if hasattr(owner, name)
}

T = TypeVar("T", bound=Named)


def twin(victim: T, who: str = "") -> T:
    """An independent copy of a victim or an attack, weights included.

    Raises :class:`BadInput` if it cannot be copied; ``who`` names it in the message.
    """
    modules: Iterable[nn.Module] = victim.modules() if isinstance(victim, nn.Module) else ()
    values = (value for module in modules for value in vars(module).values())
    # deepcopy refuses tensors with a gradient history, which weight_norm, for one, keeps as attributes.
    memo: dict[int, Any] = {
        id(value): value.detach().clone()
        for value in values
        if isinstance(value, Tensor) and not value.is_leaf
    }
    try:
        with torch.inference_mode(False):
            return copy.deepcopy(victim, memo)
    except (Exception, SystemExit) as error:
        who = who or f"victim '{victim.name}'"
        raise BadInput(f"{who} is run on copies and cannot be copied: {reason(error)}") from error


@dataclass
class Ran:
    """How contained code ran. ``drew``: it used the random state of Python, NumPy or torch."""

    drew: bool = False


@contextmanager
def contained(who: str, seed: int | None = None) -> Iterator[Ran]:
    """Run untrusted code; ``who``, such as "attack 'pgd'", is named in every error that it causes.

    With ``seed`` all global random state starts from it, and is restored afterwards. Raises
    :class:`VbenchError` for whatever the code raises, with file and line, and for settings of the process
    that it changed, which are restored. ``OutOfMemoryError`` passes through, for callers that can retry.
    """
    ran, state = Ran(), ProcessState()
    try:
        with own_random_state() if seed is not None else nullcontext():
            before = None
            if seed is not None:
                seed_all(seed)
                before = random_state()
            with memory_errors():
                yield ran
            ran.drew = before is not None and random_state() != before
    except torch.cuda.OutOfMemoryError:
        state.put_back()
        raise
    except (Exception, SystemExit) as error:
        _raise_if_changed(who, state.put_back(), error)
        if isinstance(error, VbenchError) and not isinstance(error, BadInput):
            raise
        # Bad input that shows up in the middle of the work is a failure of the work: exit code 1.
        raise VbenchError(str(error) if isinstance(error, BadInput) else f"{who}: {reason(error)}") from error
    finally:
        changed = state.put_back()
    _raise_if_changed(who, changed)


@contextmanager
def untouched(who: str, *victims: nn.Module) -> Iterator[None]:
    """Restore victims and their classes after the block; :class:`VbenchError` naming what ``who`` changed."""
    saved = [_SavedVictim(victim) for victim in {id(victim): victim for victim in victims}.values()]

    def put_back() -> list[str]:
        return [change for one in saved for change in one.put_back()]

    try:
        yield
    except Exception as error:
        _raise_if_changed(who, put_back(), error)
        raise
    finally:
        changed = put_back()
    _raise_if_changed(who, changed)


def _raise_if_changed(who: str, changed: list[str], cause: BaseException | None = None) -> None:
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        line = f"{who} changed {shown}, which others depend on; it may change nothing but what it is given"
        raise VbenchError(line) from cause


class _SavedVictim:
    """Saved state of a victim: its tensors, the attributes of its modules, and those of their classes."""

    def __init__(self, victim: nn.Module) -> None:
        self._victim = victim
        self._modules = [(name, module, _attributes(module)) for name, module in victim.named_modules()]
        classes = {cls for module in victim.modules() for cls in type(module).__mro__ if cls is not object}
        self._classes = [(cls, dict(vars(cls))) for cls in classes]
        self._tensors = [
            (name, tensor, tensor.detach().clone(), tensor.requires_grad, tensor.grad)
            for name, tensor in (*victim.named_parameters(), *victim.named_buffers())
        ]

    def put_back(self) -> list[str]:
        """Restore all that has changed; returns their names."""
        whose = f"victim '{getattr(self._victim, 'name', type(self._victim).__name__)}'"
        changed = [
            f"{cls.__name__}.{name}" for cls, saved in self._classes for name in _restore_class(cls, saved)
        ]
        for name, module, saved in self._modules:
            found = _restore_attributes(module, saved)
            changed += [f"'{f'{name}.{attribute}'.lstrip('.')}' of {whose}" for attribute in found]
        for name, tensor, before, needs_grad, gradient in self._tensors:
            if _restore_tensor(tensor, before, needs_grad, gradient):
                changed.append(f"'{name}' of {whose}")
        return changed


def _attributes(module: nn.Module) -> dict[str, Any]:
    """Attributes of one module; of hooks and other dicts also a copy, to detect additions to them."""
    return {
        name: (value, dict(value) if isinstance(value, dict) else None)
        for name, value in vars(module).items()
    }


def _restore_attributes(module: nn.Module, saved: dict[str, Any]) -> list[str]:
    now = _attributes(module)
    changed = [name for name in {**saved, **now} if not _same(saved.get(name), now.get(name))]
    for name in changed:
        vars(module).pop(name, None)
        if name in saved:
            value, content = saved[name]
            if content is not None:
                value.clear()
                value.update(content)
            vars(module)[name] = value
    return changed


def _same(before: tuple[Any, Any] | None, after: tuple[Any, Any] | None) -> bool:
    if before is None or after is None or before[0] is not after[0]:
        return False
    return before[1] is None or (
        list(before[1]) == list(after[1]) and all(before[1][key] is after[1][key] for key in before[1])
    )


def _restore_class(cls: type, saved: dict[str, Any]) -> list[str]:
    now = dict(vars(cls))
    # Python adds annotations when they are first read.
    names = [name for name in {**saved, **now} if not name.startswith("__annot")]
    changed = [name for name in names if saved.get(name, cls) is not now.get(name, cls)]
    for name in changed:
        if name in saved:
            setattr(cls, name, saved[name])
        else:
            delattr(cls, name)
    return changed


@torch.no_grad()
def _restore_tensor(tensor: Tensor, saved: Tensor, needs_grad: bool, gradient: Tensor | None) -> bool:
    alike = (tensor.shape, tensor.dtype, tensor.device) == (saved.shape, saved.dtype, saved.device)
    same = alike and (
        torch.equal(tensor, saved) or bool(((tensor == saved) | (tensor.isnan() & saved.isnan())).all())
    )
    if same and tensor.requires_grad == needs_grad and tensor.grad is gradient:
        return False
    if not same and alike:
        tensor.copy_(saved)
    elif not same:
        tensor.data = saved.clone()
    tensor.requires_grad_(needs_grad)
    tensor.grad = gradient
    return True


@contextmanager
def own_random_state() -> Iterator[None]:
    """Restore the states of Python, NumPy and torch (CPU, CUDA) on leaving, also after an exception."""
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    makers, seeds = vars(np.random), vars(bit_generator)
    random_state_class, randbits = makers["RandomState"], seeds["randbits"]
    try:
        with torch.random.fork_rng(devices=_gpus()):
            # NumPy generators made without a seed would take one from the system: derive it from the state.
            makers["RandomState"], seeds["randbits"] = _Derived, random.getrandbits
            yield
    finally:
        makers["RandomState"], seeds["randbits"] = random_state_class, randbits
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def seed_all(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    # torch.manual_seed() formats a stack trace at each call where there is no GPU.
    torch.default_generator.manual_seed(seed)
    for index in _gpus():
        torch.cuda.default_generators[index].manual_seed(seed)


def random_state() -> tuple[Any, ...]:
    """The states of Python, NumPy and torch; two results are equal if no random number was used between."""
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(index) for index in _gpus())]
    torch_states = [state.numpy().tobytes() for state in states]
    return random.getstate(), numpy["key"].tobytes(), numpy["pos"], torch_states


def _gpus() -> range:
    # Asking would initialise CUDA in a process that does not use it.
    return range(torch.cuda.device_count()) if torch.cuda.is_initialized() else range(0)


class _Derived(np.random.RandomState):
    """A generator that takes its seed from NumPy's global state when none is given."""

    def __init__(self, seed: int | Sequence[int] | np.ndarray | np.random.BitGenerator | None = None) -> None:
        super().__init__(np.random.randint(2**31) if seed is None else seed)  # noqa: NPY002
