"""What vbench reaches of the bare loop of the same network, precision and batch, on a GPU: run as a script.

Embedding and one gradient of every victim at full size, crafting and fitting (as ``attacks_bench.py``
measures them), training steps, and rankings up to a hundred thousand images. A share of 1 is the bare loop;
beside it is the goal. ``--tiny --device cpu`` runs all of it in small, to see that it works. Ends with 1 if a
goal is missed.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import attacks_bench
import numpy as np
import torch

from vbench.core.arithmetic import default_arithmetic
from vbench.core.environment import environment
from vbench.core.types import Modality
from vbench.data.base import Dataset, Sample, Trial
from vbench.metrics import rank_embeddings
from vbench.victims.base import Victim, frozen
from vbench.victims.embed import batch_of, embed
from vbench.victims.load import build_victim, resolve_device
from vbench.victims.precision import Precision, compute_in
from vbench.victims.registry import victims
from vbench.victims.training.batches import TrainImages
from vbench.victims.training.recipe import TrainBatch
from vbench.victims.training.trainer import make_optimizer, mixed_precision, recipe_of, train_victim

GOALS = {"embed": 0.95, "craft": 0.90, "fit": 0.85, "train": 0.60}


def main() -> int:
    """Print the tables; 1 if a share is below its goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="thin victims and few images")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--victim", action="append")
    given = parser.parse_args()
    device = resolve_device(given.device)
    if given.tiny:
        torch.set_num_threads(1)
        attacks_bench.BATCH, attacks_bench.IDENTITIES = 8, 16
    about = environment(device)
    print(about["device_name"], {name: about["versions"].get(name) for name in ("torch", "cuda", "cudnn")})
    below = False
    print(f"\n{'victim':8s} {'precision':24s} {'forward/s':>10s} {'gradient/s':>10s} {'embed/s':>10s}")
    for name in given.victim or victims.names():
        below |= victim_rows(name, device, given.tiny, given.repeats)
    print()
    for what, work in (("craft", crafting), ("fit", fitting), ("train", training)):
        for label, found in work(device, given.tiny, given.repeats):
            below |= shown(what, label, found)
    print()
    rankings(device, given.tiny)
    return int(below and not given.tiny)


def shown(what: str, label: str, share: float) -> bool:
    """Print a share of the bare loop; true if it is below its goal."""
    print(
        f"{what:8s} {label:35s} {share:6.3f}  [{GOALS[what]:.2f}]{'  BELOW' * (share < GOALS[what])}",
        flush=True,
    )
    return share < GOALS[what]


def built(name: str, device: torch.device, tiny: bool) -> Victim:
    """An untrained victim at full size, or the thin one."""
    options = victims.load(name).THIN if tiny else {}
    return build_victim(victims.load(name), num_classes=395, device=device, **options)


@default_arithmetic()
def victim_rows(name: str, device: torch.device, tiny: bool, repeats: int) -> bool:
    """Images a second of one victim in each precision; true if embedding is below its goal."""
    victim, below = built(name, device, tiny), False
    batch = 4 if tiny else batch_of(victim)
    pixels = np.random.default_rng(0).integers(0, 256, (4 * batch, *victim.input_size, 3), dtype=np.uint8)
    images = attacks_bench.pictures(victim, batch, 0)
    for precision in (Precision(), Precision("bfloat16", True)):
        compute_in(victim, precision)

        def forward() -> None:
            for _ in range(4):
                victim(images, Modality.INFRARED)

        def ours() -> None:
            embed(victim, pixels, Modality.INFRARED, batch=batch, quiet=True)

        def gradient() -> None:
            attacks_bench.bare(victim, [(images, Modality.INFRARED)])

        with frozen(victim), torch.no_grad():
            pairs = in_turn(forward, ours, images, repeats)
        once = statistics.median(attacks_bench.seconds(gradient, images) for _ in range(repeats))
        first, second = (4 * batch / statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name:8s} {precision!s:24s} {first:10.0f} {batch / once:10.0f} {second:10.0f}", flush=True)
        below |= shown("embed", f"{name}, {precision}", statistics.median(a / b for a, b in pairs))
    return below


def in_turn(
    reference: Callable[[], None], ours: Callable[[], None], like: torch.Tensor, repeats: int
) -> list[tuple[float, float]]:
    """Seconds of the reference and of ours, one after the other."""
    reference(), ours()
    return [
        (attacks_bench.seconds(reference, like), attacks_bench.seconds(ours, like)) for _ in range(repeats)
    ]


def crafting(device: torch.device, tiny: bool, repeats: int) -> list[tuple[str, float]]:
    """Per-image attacks on AGW, as shares of the bare loop over the same passes."""
    victim = built("agw", device, tiny)
    specs = attacks_bench.PER_IMAGE[: 1 if tiny else None]
    return [(spec, 1 / statistics.median(attacks_bench.per_image(spec, victim, repeats))) for spec in specs]


def fitting(device: torch.device, tiny: bool, repeats: int) -> list[tuple[str, float]]:
    """Universal attacks on AGW, as shares of the bare loop over the same passes."""
    victim = built("agw", device, tiny)
    view, specs = attacks_bench.training(victim), ("uap",) if tiny else attacks_bench.UNIVERSAL
    evaluations = 128 if tiny else attacks_bench.EVALUATIONS
    return [
        (spec, 1 / statistics.median(attacks_bench.universal(spec, victim, view, evaluations, repeats)))
        for spec in specs
    ]


@default_arithmetic()
def training(device: torch.device, tiny: bool, repeats: int) -> list[tuple[str, float]]:
    """AGW trained by its own recipe, as a share of as many bare steps over a batch that lies there."""
    people, each = 64, 2 if tiny else 20
    victim = build_victim(
        victims.load("agw"), num_classes=people, device=device, **(victims.load("agw").THIN if tiny else {})
    )
    dataset, images = drawn(people, each, victim.input_size)
    recipe = dataclasses.replace(recipe_of(victim, 1), validation=0.0, warmup_epochs=0.0)
    steps = -(-people * each // (recipe.identities * recipe.instances))
    rows = recipe.identities * recipe.instances
    labels = torch.arange(recipe.identities).repeat_interleave(recipe.instances).to(device)
    shown_images = attacks_bench.pictures(victim, recipe.visible_views * rows, 0)
    batch = TrainBatch(shown_images, shown_images[:rows], labels, torch.Generator(), recipe.instances, 0, 1)
    optimizer, half = make_optimizer(victim, recipe), mixed_precision("auto", device)

    def bare() -> None:
        victim.train()
        for _ in range(steps):
            with torch.autocast(device.type, half, enabled=half is not None):
                losses = victim.training_losses(batch)
            optimizer.zero_grad(set_to_none=True)
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            optimizer.step()

    def ours() -> None:
        train_victim(victim, dataset, images, 0, recipe=recipe, device=device, quiet=True)

    pairs = in_turn(bare, ours, shown_images, repeats)
    return [(f"agw, {steps} steps of {2 * rows} images", statistics.median(a / b for a, b in pairs))]


def drawn(people: int, each: int, size: tuple[int, int]) -> tuple[Dataset, TrainImages]:
    """Random training images, ``each`` of everyone and modality, and the lists that name them."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, people * each, *size, 3), dtype=np.uint8)
    labels = np.arange(people).repeat(each)
    lists = {
        modality: tuple(Sample(f"{row}.jpg", int(pid), cam, modality) for row, pid in enumerate(labels))
        for modality, cam in ((Modality.VISIBLE, 1), (Modality.INFRARED, 3))
    }
    test = {modality: (Sample("0.jpg", people, 1, modality),) for modality in Modality}
    dataset = Dataset(
        name="sysu",
        root=Path("absent"),
        protocol="sysu/all/single/ir2vis/seed10",
        metric="sysu",
        split="sysu",
        synthetic=True,
        train_visible=lists[Modality.VISIBLE],
        train_infrared=lists[Modality.INFRARED],
        query=test[Modality.INFRARED],
        gallery=test[Modality.VISIBLE],
        trials=(Trial("1", np.array([0]), np.array([0])),),
    )
    return dataset, TrainImages(pixels[0], pixels[1], labels, labels)


def rankings(device: torch.device, tiny: bool) -> None:
    """Seconds of rankings of SYSU-MM01's size and of a hundred thousand images."""
    draws, queries, width = torch.Generator().manual_seed(0), 50 if tiny else 3803, 64 if tiny else 2048
    for gallery in (301, 1000 if tiny else 100_000):
        query, other = (torch.randn(rows, width, generator=draws).to(device) for rows in (queries, gallery))
        ids = torch.arange(queries) % 96, torch.arange(gallery) % 96
        cams = torch.full((queries,), 3), torch.full((gallery,), 1)
        for _ in range(2):
            start = time.perf_counter()
            rank_embeddings(query, other, *ids, *cams)
            taken = time.perf_counter() - start
        print(f"ranking  {queries} queries x {gallery} gallery images: {taken:.3f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
