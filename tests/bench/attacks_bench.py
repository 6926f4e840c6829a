"""What attacks cost beyond the passes they claim, in one process: run as a script.

The reference is written out here: as many forward and backward passes through the frozen victim, the gradient
taken with respect to the images alone, and nothing else. Ours and the reference take turns, and the figure is
the median of the ratios of neighbours. On CPU it is one thread's own time that counts, so that other work on
the machine does not; on a GPU the wall clock. The clean pass in which cmps embeds grey images is ours to pay.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from vbench.attacks.base import Context
from vbench.attacks.build import build_attack
from vbench.attacks.fsam_uap.modules import FeatureModules
from vbench.attacks.training import ModalityView, TrainingView
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.agw import AGW
from vbench.victims.base import Edits, Victim, VictimOutput, frozen
from vbench.victims.embed import embed

THREAT = ThreatModel("8/255")
PER_IMAGE_LIMIT, UNIVERSAL_LIMIT = 1.10, 1.15
PER_IMAGE = ("metric_ifgsm", "sma", "pgd")
NO_MODULES = "fsam_uap[fsam=false,sfm=false]"
UNIVERSAL = ("uap", "cmps", NO_MODULES)
#: FSAM's passes are those of the other universal attacks; what its modules add to them is shown apart.
WITH_MODULES = ("fsam_uap", "fsam_uap[anchors=adversarial]", "fsam_uap[stages=all,anchors=adversarial]")
IDENTITIES, BATCH, EVALUATIONS = 128, 64, 3200


def main() -> int:
    """Print the tables; 1 if a ratio is above its limit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--full", action="store_true", help="AGW at full size instead of the thin one")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--evaluations", type=int, default=EVALUATIONS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    options = {} if given.full else AGW.THIN
    generator = torch.Generator().manual_seed(0)
    victim = AGW(num_classes=IDENTITIES, generator=generator, **options).to(given.device).eval()
    height, width = victim.input_size
    print(f"agw {height}x{width}, batches of {BATCH}, {given.device}: ours / bare passes, limit in brackets")
    failed = False
    for spec in PER_IMAGE:
        failed |= shown(spec, per_image(spec, victim, given.repeats), PER_IMAGE_LIMIT)
    train = training(victim)
    for spec in UNIVERSAL:
        found = universal(spec, victim, train, given.evaluations, given.repeats)
        failed |= shown(spec, found, UNIVERSAL_LIMIT)
    for spec in WITH_MODULES:
        shown(spec, universal(spec, victim, train, given.evaluations, given.repeats))
    modules_by_stage(victim, given.repeats)
    return int(failed)


def shown(what: str, ratios: list[float], limit: float | None = None) -> bool:
    """Print one line; true if the median is above the limit."""
    middle = statistics.median(ratios)
    mark = "" if limit is None else f"  [{limit:.2f}]{'' if middle <= limit else '  ABOVE'}"
    print(f"{what:42s} {middle:6.3f}  ({min(ratios):.3f} to {max(ratios):.3f}){mark}", flush=True)
    return limit is not None and middle > limit


def per_image(spec: str, victim: Victim, repeats: int) -> list[float]:
    """Crafting a batch of images against the bare loop of as many passes."""
    attack = build_attack(spec)
    images = pictures(victim, BATCH, seed=1)
    with frozen(victim), torch.no_grad():
        output = victim(images, Modality.INFRARED)
    seeds, predictions = tuple(range(BATCH)), output.logits.argmax(1)
    context = Context(THREAT, seeds, output.embedding, predictions=predictions)

    def ours() -> None:
        attack.perturb(victim, images, Modality.INFRARED, context)

    return ratios(ours, partial(bare, victim, passes_of(victim, ours)), images, repeats)


def universal(spec: str, victim: Victim, train: TrainingView, evaluations: int, repeats: int) -> list[float]:
    """Learning a perturbation against the bare loop over as many images in as large batches."""
    attack = replace(build_attack(spec), evaluations=evaluations)

    def ours() -> None:
        attack.fit(victim, train, THREAT, torch.Generator().manual_seed(0), quiet=True)

    return ratios(ours, partial(bare, victim, passes_of(victim, ours)), next(victim.parameters()), repeats)


def modules_by_stage(victim: Victim, repeats: int) -> None:
    """Print what FSAM, SFM and both cost at each stage, as a ratio to the frozen victim."""
    images = pictures(victim, BATCH // 2, seed=2)
    with frozen(victim), torch.no_grad():
        features = victim(images[:1], Modality.VISIBLE).features
    print(f"\n{'one pass with modules / frozen victim':42s} {'FSAM':>6s}  {'SFM':>6s}  {'both':>6s}")
    for stage in victim.stages:
        channels, cells = {stage: features[stage].shape[1]}, ""
        for kinds in (([stage], []), ([], [stage]), ([stage], [stage])):
            seeded = torch.Generator().manual_seed(0)
            modules = FeatureModules(channels, *kinds, "cbam_spatial", 0.9, seeded).to(images)
            edits = modules.requires_grad_(False).edits(Modality.VISIBLE)
            work = [(images, Modality.VISIBLE)] * 2
            found = ratios(partial(bare, victim, work, edits), partial(bare, victim, work), images, repeats)
            cells += f"  {statistics.median(found):6.3f}"
        print(f"{stage:41s}{cells}", flush=True)


def passes_of(victim: Victim, work: Callable[[], None]) -> list[tuple[Tensor, Modality]]:
    """Random images for every pass with a gradient in ``work``, as many as come out of it."""
    asked: list[tuple[int, Modality]] = []

    def count(module: Victim, inputs: tuple, output: VictimOutput) -> None:
        if torch.is_grad_enabled():
            asked.append((len(output.embedding), inputs[1]))

    handle = victim.register_forward_hook(count)
    work()
    handle.remove()
    images = pictures(victim, max(rows for rows, _ in asked), seed=3)
    return [(images[:rows], modality) for rows, modality in asked]


def bare(victim: Victim, passes: list[tuple[Tensor, Modality]], edits: Edits | None = None) -> None:
    """Forward and backward through a frozen victim, once for each batch."""
    with frozen(victim):
        for images, modality in passes:
            variable = images.detach().requires_grad_(True)
            torch.autograd.grad(victim(variable, modality, edits).embedding.sum(), variable)


def ratios(
    ours: Callable[[], None], reference: Callable[[], None], like: Tensor, repeats: int
) -> list[float]:
    """Times of ``ours`` over times of ``reference``, which take turns in going first."""
    ours(), reference()
    found = []
    for turn in range(repeats):
        if turn % 2:
            second, first = seconds(reference, like), seconds(ours, like)
        else:
            first, second = seconds(ours, like), seconds(reference, like)
        found.append(first / second)
    return found


def seconds(work: Callable[[], None], like: Tensor) -> float:
    """Time of one call, with the device's work done."""
    clock = time.perf_counter if like.is_cuda else time.process_time
    start = clock()
    work()
    if like.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def pictures(victim: Victim, count: int, seed: int) -> Tensor:
    """Random 8-bit images, N x 3 x H x W in [0, 1], on the victim's device."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(0, 256, (count, 3, *victim.input_size), generator=generator)
    return values.to(next(victim.parameters())) / 255


def training(victim: Victim) -> TrainingView:
    """One image of each identity and modality."""
    views = {}
    for seed, modality in enumerate(Modality):
        stored = (pictures(victim, IDENTITIES, seed) * 255).round().to(torch.uint8)
        found = embed(victim, stored.permute(0, 2, 3, 1), modality)
        labels = torch.arange(IDENTITIES)
        views[modality] = ModalityView(stored, labels, found.embeddings, found.predictions)
    return TrainingView(views)


if __name__ == "__main__":
    sys.exit(main())
