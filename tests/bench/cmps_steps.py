"""From a plain universal perturbation to CMPS, one change at a time: ``make cmps``.

Each row is one fit with the same images (12,800 gradient evaluations) on the same victim and data. Both the
paper's algorithm 1 and the released code (github.com/finger-monkey/CMPS, commit 78126a2) are reached.
docs/cmps.md shows the result and says what it means. Writes docs/cmps.csv.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize

import vbench
from vbench.attacks.base import UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.training import TrainingView
from vbench.attacks.updates import learn_delta, updates_for
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.data.pixels import grey_images
from vbench.victims.base import Victim

VISIBLE, INFRARED = Modality


@dataclass(frozen=True)
class Steps(UniversalAttack):
    """A universal perturbation whose parts are those of ``uap``, of CMPS's paper or of its released code."""

    name: ClassVar[str] = "cmps_steps"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "universal: between a plain perturbation and CMPS"

    evaluations: int = param(12800, "gradient evaluations (images) to spend")
    batch: int = param(64, "images per gradient")
    images: Literal["together", "in_turns", "visible", "infrared"] = param(
        "together", "modalities of a batch: half each, one after the other, or one alone"
    )
    momentum: float = param(0.9, "share of the past direction that is kept")
    step: float = param(0.1, "length of a step, in eps")
    loss: Literal["difference", "triplet"] = param(
        "difference", "of squared distances; or the hinge of distances with margin 0.5"
    )
    away: Literal["nearest", "own"] = param("nearest", "leaves the nearest centroid, or that of its identity")
    grey_centroids: bool = param(False, "grey centroids where equations 4 and 7 of the paper have them")
    grey: float = param(0.0, "probability that a visible image turns grey")
    centroids: Literal["identity", "kmeans", "mixed"] = param(
        "identity", "means of identities; k-means in a modality; k-means over all images"
    )
    unit: bool = param(True, "embeddings have unit length, as the victim compares them")
    visible_stem: bool = param(False, "infrared images pass through the visible stem while learning")
    lookahead: bool = param(False, "a second gradient where the step of the first leads (the meta step)")

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        state = _Learning(self, victim, train, generator)
        alone = self.images != "together"
        count = min(self.batch if alone else self.batch // 2, len(train.identities))
        per = count * (1 if alone else 2) * (2 if self.lookahead else 1)
        reach = self.step * threat.epsilon

        def objective(delta: Tensor) -> Tensor:
            value = state.value(delta, count)
            if self.lookahead:
                # The sign has no slope, so the second gradient passes through the step unchanged.
                (slope,) = torch.autograd.grad(value, delta, retain_graph=True)
                stepped = (delta + reach * slope.sign()).clamp(-threat.epsilon, threat.epsilon)
                value = value + state.value(delta + (stepped - delta).detach(), count)
            return value

        updates = updates_for(self.evaluations, per, self.name)
        shape, like = (3, *victim.input_size), train[VISIBLE].embeddings
        label = f"learning {self.name}"
        delta = learn_delta(
            shape, objective, threat, generator, updates, reach, self.momentum, like, label, quiet
        )
        return Perturbation(delta, fit_log={"updates": updates})


class _Learning:
    """Clean embeddings and centroids of one fit, and its objective."""

    def __init__(self, steps: Steps, victim: Victim, train: TrainingView, generator: Generator) -> None:
        self.steps, self.victim, self.train, self.generator = steps, victim, train, generator
        self.turns = self._turns()
        with torch.no_grad():
            self.clean = {one: self._all(one, grey=False) for one in Modality}
            self.grey = self._all(VISIBLE, grey=True)
            self.centroids = {one: self._centroids(self.clean[one], one) for one in Modality}
            self.grey_centroids = self._centroids(self.grey, VISIBLE)
            if steps.centroids == "mixed":
                both = torch.cat(list(self.clean.values()))
                mixed = kmeans(both, len(train.identities), generator)
                self.centroids, self.grey_centroids = dict.fromkeys(Modality, mixed), mixed

    def value(self, delta: Tensor, count: int) -> Tensor:
        """The objective of one batch, to be raised."""
        identities, positions = self.train.pairs(count, self.generator)
        chosen = next(self.turns)
        return torch.stack([self._one(delta, one, identities, positions[one]) for one in chosen]).sum()

    def _turns(self) -> Iterator[tuple[Modality, ...]]:
        rounds = {"together": [tuple(Modality)], "in_turns": [(VISIBLE,), (INFRARED,)]}
        for_one = {"visible": [(VISIBLE,)], "infrared": [(INFRARED,)]}
        while True:
            yield from (rounds | for_one)[self.steps.images]

    def _one(self, delta: Tensor, modality: Modality, identities: Tensor, index: Tensor) -> Tensor:
        images, clean = self.train[modality].batch(index), self.clean[modality][index]
        push = pull = self.centroids[modality.other]
        if self.steps.grey_centroids and modality is VISIBLE:
            pull = self.grey_centroids
        if self.steps.grey_centroids and modality is INFRARED:
            push, pull = self.grey_centroids, self.centroids[VISIBLE]
        turned = torch.zeros(len(index), dtype=torch.bool)
        if self.steps.grey and modality is VISIBLE:
            turned = torch.rand(len(index), generator=self.generator, dtype=torch.float64) < self.steps.grey
            images = torch.where(turned.view(-1, 1, 1, 1), grey_images(images), images)
            clean = torch.where(turned[:, None], self.grey[index], clean)
        embedding = self._embed((images + delta).clamp(0, 1), modality)
        value = self._value(embedding, clean, identities, push, pull)
        if turned.any() and self.steps.grey_centroids:
            own = self._value(embedding, clean, identities, self.centroids[VISIBLE], self.centroids[INFRARED])
            value = torch.where(turned, own, value)
        return value.mean()

    def _value(
        self, embedding: Tensor, clean: Tensor, identities: Tensor, push: Tensor, pull: Tensor
    ) -> Tensor:
        rows = torch.cdist(clean, push).argmin(1)
        if self.steps.away == "own":
            rows = torch.searchsorted(self.train.identities, identities)
        near = (embedding - push[rows]).square().sum(1)
        far = (embedding - pull[torch.cdist(clean, pull).argmax(1)]).square().sum(1)
        if self.steps.loss == "difference":
            return near - far
        return -((far + 1e-12).sqrt() - (near + 1e-12).sqrt() + 0.5).clamp_min(0)

    def _embed(self, images: Tensor, modality: Modality) -> Tensor:
        seen = VISIBLE if self.steps.visible_stem else modality
        output = self.victim(images, seen)
        if self.steps.unit:
            return normalize(output.embedding, dim=1)
        # The released code compares pooled features as they are.
        return output.features[self.victim.stages[-1]].mean((2, 3))

    def _all(self, modality: Modality, grey: bool) -> Tensor:
        view = self.train[modality]
        batches = (view.batch(rows) for rows in torch.arange(len(view.labels)).split(64))
        return torch.cat([self._embed(grey_images(one) if grey else one, modality) for one in batches])

    def _centroids(self, points: Tensor, modality: Modality) -> Tensor:
        if self.steps.centroids == "kmeans":
            return kmeans(points, len(self.train.identities), self.generator)
        labels = self.train[modality].labels
        return torch.stack([points[labels == one].mean(0) for one in self.train.identities])


def kmeans(points: Tensor, count: int, generator: Generator, rounds: int = 20) -> Tensor:
    """``count`` centres of N x D points by Lloyd's algorithm, from ``count`` of the points."""
    centres = points[torch.randperm(len(points), generator=generator)[:count]].clone()
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        total = torch.zeros_like(centres).index_add_(0, nearest, points)
        number = torch.bincount(nearest, minlength=count).unsqueeze(1)
        centres = torch.where(number > 0, total / number.clamp_min(1), centres)
    return centres


PAPER = {
    "images": "in_turns",
    "momentum": 1.0,
    "step": 1 / 12,
    "loss": "triplet",
    "away": "own",
    "grey_centroids": True,
    "grey": 0.2,
}
RELEASED = {
    "momentum": 1.0,
    "loss": "triplet",
    "centroids": "mixed",
    "unit": False,
    "visible_stem": True,
    "grey": 0.2,
    "lookahead": True,
}


def rows() -> dict[str, dict[str, object]]:
    """The settings of each row by name: the plain attack, each part alone, and both readings built up."""
    found: dict[str, dict[str, object]] = {"uap": {}}
    for title, reading in (("paper", PAPER), ("released", RELEASED)):
        for name, value in reading.items():
            found.setdefault(f"uap, {name}={value}", {name: value})
        given: dict[str, object] = {}
        for name, value in reading.items():
            given[name] = value
            found[f"{title}: + {name}={value}"] = dict(given)
    for modality in ("infrared", "visible"):
        found[f"uap, images={modality}"] = {"images": modality}
    for title, reading in (("uap", {}), ("paper", PAPER), ("released", RELEASED)):
        found[f"{title}, batch=16"] = {**reading, "batch": 16}
        found[f"{title}, batch=16, momentum=0.9"] = {**reading, "batch": 16, "momentum": 0.9}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victim", nargs="+", default=["agw", "pmt"])
    parser.add_argument("--seed", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", help="only these")
    parser.add_argument("--out", type=Path, default=Path("docs/cmps.csv"))
    args = parser.parse_args()
    fields = ["victim", "row", "seed", "r1", "map", "updates", *asdict(Steps())]
    with args.out.open("w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, fields, lineterminator="\n")
        out.writeheader()
        for victim in args.victim:
            for name, settings in rows().items():
                if args.rows and name not in args.rows:
                    continue
                result = vbench.evaluate(victim, Steps(**settings), seed=args.seed)
                for record in result.records:
                    trials = record.adversarial
                    r1, ap = (
                        sum(getattr(one, metric) for one in trials) / len(trials) for metric in ("r1", "map")
                    )
                    figures = {"r1": f"{100 * r1:.1f}", "map": f"{100 * ap:.1f}"}
                    facts = {"victim": victim, "row": name, "seed": record.config["seed"]}
                    updates = {"updates": record.fit_log["updates"]}
                    out.writerow({**facts, **figures, **updates, **asdict(Steps(**settings))})
                    print(victim, name, *facts.values(), *figures.values(), flush=True)
                file.flush()


if __name__ == "__main__":
    main()
