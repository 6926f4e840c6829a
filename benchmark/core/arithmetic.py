"""torch's arithmetic settings: those of the caller must not change results, or are recorded if they may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch.backends import cudnn

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia")


@contextmanager
def default_arithmetic() -> Iterator[None]:
    """Compute with torch's defaults inside the block, and restore the caller's settings afterwards.

    Off inside: autocast on every device, inference mode, no_grad, another default dtype or device, and
    flushing of denormal numbers to zero. The precision of float32 products stays as the caller set it and is
    part of a victim's card (:func:`float32_products`); on a GPU that of matrices holds for convolutions too,
    which torch would compute in TF32 otherwise, and convolutions give the same bits at each call. Also usable
    as a decorator.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _AUTOCAST_DEVICES:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, dtype)
        # A device context slows down every torch call, so only if needed. Old torch hides the default.
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if _flushes_denormals():
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        tf32 = float32_products(torch.device("cuda"))["matmul"] == "tf32"
        wanted = {"allow_tf32": tf32, "deterministic": True, "benchmark": False}
        for owner, name in _cudnn_settings():
            stack.callback(setattr, owner, name, getattr(owner, name))
        for name, value in wanted.items():
            setattr(cudnn, name, value)
        yield


def float32_products(device: torch.device) -> dict[str, str]:
    """The precision of float32 "matmul" and "convolution" on a device: "ieee", "tf32" or "bf16".

    As it is inside :func:`default_arithmetic`.
    """
    gpu = device.type == "cuda"
    if hasattr(torch.backends, "fp32_precision"):
        # torch replaces these modules by objects that type checkers do not see.
        matmul = torch.backends.cuda.matmul if gpu else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        convolution = matmul if gpu else torch.backends.mkldnn.conv  # type: ignore[attr-defined]
        found = {"matmul": matmul.fp32_precision, "convolution": convolution.fp32_precision}
        return {name: "ieee" if value == "none" else value for name, value in found.items()}
    if gpu:
        return dict.fromkeys(
            ("matmul", "convolution"), "tf32" if torch.backends.cuda.matmul.allow_tf32 else "ieee"
        )
    # Before torch 2.9 one setting held for all devices; on a CPU it concerned only matrix products.
    matmul = {"medium": "bf16", "high": "tf32"}.get(torch.get_float32_matmul_precision(), "ieee")
    return {"matmul": matmul, "convolution": "ieee"}


def _cudnn_settings() -> list[tuple[Any, str]]:
    """What must be put back after "allow_tf32", "deterministic" and "benchmark" were set."""
    found: list[tuple[Any, str]] = [(cudnn, "deterministic"), (cudnn, "benchmark")]
    newer: Any = cudnn
    try:
        _ = newer.allow_tf32
    except RuntimeError:
        # The caller used the newer names, which "allow_tf32" sets too and cannot show.
        return [*found, (newer.conv, "fp32_precision"), (newer.rnn, "fp32_precision")]
    return [*found, (newer, "allow_tf32")]


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device is a GPU that computes in bfloat16 without emulating it."""
    return device.type == "cuda" and torch.cuda.get_device_properties(device).major >= 8


def _flushes_denormals() -> bool:
    # torch has no function that returns this setting.
    tiny = torch.full((1,), 1e-39, dtype=torch.float32, device="cpu")
    return (tiny * 1.0).item() == 0.0
