"""Time each victim's full-size forward pass against the plain sum of its layers: run as a script.

A layer is a module that the model calls: a stem, a residual block, an attention block, a linear map. Each is
called alone on the very input it has in the forward pass. With ``--device cuda`` also
images a second with and without mixed precision, and how far that moves the embedding.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from vbench.core.types import Modality
from vbench.victims.base import Victim, frozen
from vbench.victims.registry import victims


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--victim", action="append")
    given = parser.parse_args()
    # Threads that wait for each other would be what is measured.
    torch.set_num_threads(1)
    device = torch.device(given.device)
    gpu = device.type == "cuda"
    columns = "  visible/s  infrared/s  bf16 visible/s  bf16 infrared/s  largest deviation" if gpu else ""
    print(f"{'victim':8s}  {'size':>8s}  {'layers':>9s}  {'forward':>9s}  {'ratio':>6s}{columns}")
    for name in given.victim or victims.names():
        victim = victims.load(name)().to(device).eval()
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(given.batch, 3, *victim.input_size, generator=generator).to(device)
        with frozen(victim), torch.no_grad():
            layers, whole, ratio = against_layers(victim, images, given.repeats)
            size = "x".join(map(str, victim.input_size))
            times = f"{layers * 1e3:6.0f} ms  {whole * 1e3:6.0f} ms  {ratio:6.3f}"
            print(f"{name:8s}  {size:>8s}  {times}{precision(victim, images) if gpu else ''}", flush=True)


def against_layers(victim: Victim, images: Tensor, repeats: int) -> tuple[float, float, float]:
    """Seconds of the layers one by one, of the whole, and the median of whole / layers, taken in turn."""
    calls = layer_calls(victim, images)

    def plain() -> None:
        for layer, inputs in calls:
            layer(*inputs)

    def whole() -> None:
        victim(images, Modality.VISIBLE)

    plain(), whole()
    pairs = [(seconds(plain, images), seconds(whole, images)) for _ in range(repeats)]
    ratio = statistics.median(second / first for first, second in pairs)
    return min(first for first, _ in pairs), min(second for _, second in pairs), ratio


def layer_calls(victim: Victim, images: Tensor) -> list[tuple[nn.Module, tuple[object, ...]]]:
    """Every outermost module call of one forward pass, with its inputs."""
    calls: list[tuple[nn.Module, tuple[object, ...]]] = []
    open_calls: list[nn.Module] = []

    def enter(module: nn.Module, inputs: tuple[object, ...]) -> None:
        if not open_calls:
            calls.append((module, tuple(x.clone() if isinstance(x, Tensor) else x for x in inputs)))
        open_calls.append(module)

    def leave(*_: object) -> None:
        open_calls.pop()

    layers = [module for module in victim.modules() if module is not victim]
    handles = [layer.register_forward_pre_hook(enter) for layer in layers]
    handles += [layer.register_forward_hook(leave) for layer in layers]
    victim(images, Modality.VISIBLE)
    for handle in handles:
        handle.remove()
    return calls


def precision(victim: Victim, images: Tensor) -> str:
    """Images a second in both modalities, in float32 and bfloat16, and the largest relative deviation."""
    cells, deviation = "", 0.0
    for enabled in (False, True):
        for modality in Modality:

            def run(modality: Modality = modality, enabled: bool = enabled) -> Tensor:
                with torch.autocast("cuda", torch.bfloat16, enabled=enabled):
                    return victim(images, modality).embedding.float()

            found = run()
            if enabled:
                with torch.autocast("cuda", enabled=False):
                    exact = victim(images, modality).embedding
                deviation = max(deviation, ((found - exact).abs().max() / exact.abs().max()).item())
            cells += f"  {len(images) / min(seconds(run, images) for _ in range(5)):10.0f}"
    return f"{cells}  {deviation:.2e}"


def seconds(function: Callable[[], object], images: Tensor) -> float:
    """Wall-clock seconds of one call, with the device's work done."""
    start = time.perf_counter()
    function()
    if images.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
