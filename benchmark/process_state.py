"""The state of this process that other people's code can reach: noted before it runs, put back afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.backends import cuda, cudnn, mkldnn
from torch.nn.modules import module as modules


class ProcessState:
    """Settings of torch, NumPy and Python that change what others compute, print or store."""

    def __init__(self) -> None:
        self._before = _read()

    def put_back(self) -> list[str]:
        """Put every setting back that is not what it was; what was changed, by name."""
        changed = _different(self._before, _read())
        for name in changed:
            _SETTINGS[name][1](self._before[name])
        return changed


def _read() -> dict[str, Any]:
    return {name: read() for name, (read, _) in _SETTINGS.items()}


def _different(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    return [name for name, value in before.items() if value is not after[name] and value != after[name]]


def _attribute(owner: object, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return partial(getattr, owner, name), partial(setattr, owner, name)


def _deterministic(mode: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(mode[0], warn_only=mode[1])


def _matmul_precision() -> str | None:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        # Somebody uses the newer settings, which are read one by one.
        return None


def _set_matmul_precision(precision: str | None) -> None:
    if precision is not None:
        torch.set_float32_matmul_precision(precision)


def _set_device(device: torch.device) -> None:
    # A default device of its own makes every call of torch slower, also where it is the usual one.
    torch.set_default_device(None if device.type == "cpu" else device)


def _autocast(device: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
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


_SETTINGS: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "whether gradients are recorded": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, _set_device),
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
# Not every version of torch has each of these.
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
