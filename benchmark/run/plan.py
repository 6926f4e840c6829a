"""What runs will cost, told before they begin."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vbench.attacks.base import Battery, UniversalAttack
from vbench.attacks.build import costs, label
from vbench.core.isolation import contained
from vbench.core.processes import own_device
from vbench.core.text import count_of, show_left
from vbench.core.types import Modality, Side
from vbench.records.spec import RunSpec, Setup
from vbench.run.execute import looks_at_training
from vbench.run.session import Session, threat_of
from vbench.victims.base import Victim, example_tensor, frozen
from vbench.victims.load import resolve_device

#: Random images that a pass is timed on.
_TIMED = 8


@dataclass(frozen=True)
class Planned:
    """One run: ``gradients``, images sent forward and backward through a model; ``forwards``, forward only.

    ``seconds`` is an estimate for this machine, None for an attack that does not say what it does. What runs
    share, such as clean embeddings and an equal fit, is part of the first of them.
    """

    spec: RunSpec
    gradients: int
    forwards: int
    seconds: float | None


def plan(session: Session, specs: Sequence[RunSpec]) -> list[Planned]:
    """The cost of each run, after :meth:`Session.check` of them.

    Nothing is trained, decoded, attacked or recorded: only one batch of each model is timed.
    """
    shared: set[Any] = set()

    def once(count: int, *of: Any) -> int:
        """``count`` for the first run that needs it, 0 for those after it."""
        new = of not in shared
        shared.add(of)
        return count if new else 0

    timed: dict[Setup, tuple[float, float]] = {}
    opened: Setup | None = None
    found = []
    for spec in specs:
        setup, attack, threat = spec.group, session.attack(spec), threat_of(spec)
        dataset = session.dataset(setup)
        lists = {Side.QUERY: dataset.query, Side.GALLERY: dataset.gallery}
        train = (dataset.train_visible, dataset.train_infrared)
        images = sum(len(lists[side]) for side in threat.sides)
        # Runs of one setup come together, and only one model is held at a time.
        if setup != opened:
            # A surrogate takes images of the victim's size; another victim of that size shares its fit.
            size = session.structure(replace(setup, surrogates=())).input_size
            model = session.structure(setup)
            opened, crafted = setup, (setup.surrogates or setup.victim, size)
        if setup not in timed:
            timed[setup] = _timed(model, setup.device)
        with_gradients, without = timed[setup]
        members = attack.applicable(model, threat)[0] if isinstance(attack, Battery) else [attack]
        # Whether the attack says what it costs.
        known = "gradients" not in attack.needs or spec.perturbation is not None
        gradients, forwards = 0, once(len(dataset.query) + len(dataset.gallery), "clean", setup)
        for member in members:
            cost = costs(member)
            fits, known = 0, known or cost["gradients"] > 0
            if isinstance(member, UniversalAttack) and not spec.perturbation:
                sizes, people = [len(one) for one in train], len(dataset.train_labels)
                for one in (member, *member.variants().values()):
                    passes = one.fit_cost(model, sizes, people)
                    known = known or passes > 0
                    same = (crafted, dataset.split, label(one), replace(threat, side=Side.QUERY))
                    fits += once(passes, "fit", *same, spec.seed)
            gradients += images * cost["gradients"] + fits
            forwards += images * (cost["queries"] + 1)
            if looks_at_training(member):
                forwards += once(sum(len(one) for one in train), "training", setup.data, setup.models)
        seconds = gradients * with_gradients + forwards * without if known else None
        found.append(Planned(spec, gradients, forwards, seconds))
    return found


def _timed(victim: Victim, device: str) -> tuple[float, float]:
    """Seconds for an image forward and backward through a model, and forward only."""
    victim = victim.to(resolve_device(own_device(device))).eval()
    images = torch.rand(_TIMED, 3, *victim.input_size, generator=torch.Generator().manual_seed(0))
    images = images.to(example_tensor(victim).device).requires_grad_(True)
    found = []
    with contained(f"victim '{victim.name}'", 0), frozen(victim):
        for backward in (True, True, False):  # the first pass is slower
            begun = time.perf_counter()
            with torch.set_grad_enabled(backward):
                output = victim(images, Modality.VISIBLE).embedding.sum()
            if backward and output.requires_grad:
                torch.autograd.grad(output, images)
            if images.is_cuda:
                torch.cuda.synchronize()
            found.append((time.perf_counter() - begun) / _TIMED)
    return found[1], found[2]


def summary(planned: Sequence[Planned]) -> str:
    """The whole in one line."""
    gradients, forwards = (sum(getattr(one, what) for one in planned) for what in ("gradients", "forwards"))
    left = show_left([one.seconds for one in planned], unknown="an unknown time").removesuffix(" left")
    passes = f"{gradients:,} images forward and backward, {forwards:,} forward"
    return f"{count_of(len(planned), 'run')}, {left} on this machine: {passes}"
