"""How torch computes: what a caller switched on must not change figures, and what may is written down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu", "mtia")


@contextmanager
def default_arithmetic() -> Iterator[None]:
    """Compute as a fresh process does, whatever the caller set torch to; afterwards all is as it was.

    Off inside: autocast on every device, inference mode, no_grad, another default dtype or device, and
    denormal numbers flushed to zero. What a caller may want for its speed stays and is part of a victim's
    card (:func:`float32_products`). As a decorator, for the length of a call.
    """
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        stack.callback(torch.set_default_dtype, dtype)
        # Makes every call of torch slower, so only where it is needed.
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        if _flushes_denormals():
            torch.set_flush_denormal(False)
            stack.callback(torch.set_flush_denormal, True)
        yield


def float32_products(device: torch.device) -> dict[str, str]:
    """What "matmul" and "convolution" multiply float32 numbers in on a device: "ieee", "tf32" or "bf16"."""
    gpu = device.type == "cuda"
    if hasattr(torch.backends, "fp32_precision"):
        # Type checkers do not see the class that torch puts in the place of these modules.
        matmul = torch.backends.cuda.matmul if gpu else torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
        convolution = torch.backends.cudnn.conv if gpu else torch.backends.mkldnn.conv  # type: ignore[attr-defined]
        found = {"matmul": matmul.fp32_precision, "convolution": convolution.fp32_precision}
        return {name: "ieee" if value == "none" else value for name, value in found.items()}
    if gpu:
        allowed = {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "convolution": torch.backends.cudnn.allow_tf32,
        }
        return {name: "tf32" if on else "ieee" for name, on in allowed.items()}
    # Before torch 2.9 one setting was for all devices, and on a CPU for products of matrices alone.
    matmul = {"medium": "bf16", "high": "tf32"}.get(torch.get_float32_matmul_precision(), "ieee")
    return {"matmul": matmul, "convolution": "ieee"}


def _flushes_denormals() -> bool:
    # There is no way to ask.
    tiny = torch.full((1,), 1e-39, dtype=torch.float32, device="cpu")
    return (tiny * 1.0).item() == 0.0
