"""Time what the pipeline does against the plain way of doing it, in one process: run as a script."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from ranking_bench import seconds

from vbench.core.types import Modality
from vbench.data import open_dataset
from vbench.data.images import load_images
from vbench.data.synthetic import write_dataset
from vbench.victims.agw import AGW
from vbench.victims.base import frozen
from vbench.victims.embed import embed

SIZE = (64, 32)
REPEATS = 3


def compare(what: str, plain: float, ours: float) -> None:
    """Print one line."""
    print(f"{what:58s} {plain * 1e3:9.1f} ms   {ours * 1e3:9.1f} ms   {plain / ours:5.1f}x")


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "data"
        start = time.perf_counter()
        write_dataset("sysu", root, ids=100, seed=0, size=SIZE, test_ids=20, quiet=True)
        pictures = len(list(root.rglob("*.jpg")))
        took = time.perf_counter() - start
        print(f"synthetic images at 64x32, one thread: {pictures / took:.0f} a second")
        dataset = open_dataset("sysu", root)
        victim = AGW(num_classes=100, **AGW.THIN).eval()
        print(f"{'':58s} {'plain':>12s}   {'vbench':>12s}")

        def decode() -> object:
            return load_images(dataset.gallery, root, SIZE, quiet=True)

        cache = Path(folder) / "cache"
        load_images(dataset.gallery, root, SIZE, cache_dir=cache, quiet=True)
        cached = seconds(
            lambda: load_images(dataset.gallery, root, SIZE, cache_dir=cache, quiet=True), REPEATS
        )
        compare("decode the gallery for ten trials / once, cached", 10 * seconds(decode, REPEATS), cached)
        pixels = decode()

        def each_trial() -> None:
            for trial in dataset.trials:
                embed(victim, pixels[trial.gallery], Modality.VISIBLE)

        union = seconds(lambda: embed(victim, pixels, Modality.VISIBLE), REPEATS)
        compare("embed ten galleries one by one / their union once", seconds(each_trial, REPEATS), union)
        images = torch.rand(48, 3, *SIZE, generator=torch.Generator().manual_seed(0))

        def backward() -> None:
            variable = images.clone().requires_grad_(True)
            victim(variable, Modality.VISIBLE).embedding.square().sum().backward()
            victim.zero_grad()

        def frozen_gradient() -> None:
            variable = images.clone().requires_grad_(True)
            with frozen(victim):
                torch.autograd.grad(victim(variable, Modality.VISIBLE).embedding.square().sum(), variable)

        compare(
            "input gradient: backward() / frozen victim",
            seconds(backward, REPEATS),
            seconds(frozen_gradient, REPEATS),
        )


if __name__ == "__main__":
    main()
