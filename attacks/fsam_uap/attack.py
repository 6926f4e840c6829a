"""The attack ``fsam_uap``: settings, learning, controls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn.functional import normalize

from vbench.attacks.base import REFERENCE, AnyEdits, Control, UniversalAttack, edits_of
from vbench.attacks.fsam_uap.losses import AQALValue, Hinge, RankingLoss, Reduction, aqal, centres
from vbench.attacks.fsam_uap.model import (
    augmented,
    in_training,
    moved,
    own_random_state,
    schedule_of,
    with_weights,
)
from vbench.attacks.fsam_uap.modules import FeatureModules, Masks, MaskStatistics, Path
from vbench.attacks.fsam_uap.training import MILESTONES, ModuleTrainer, learn_by_sgd, rates, with_true_labels
from vbench.attacks.perturbation import WEIGHTS, Perturbation
from vbench.attacks.training import ModalityView, TrainingView
from vbench.attacks.updates import UpdatedAttack, by_modality, small_start, updates_for
from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim, VictimOutput, example_tensor

#: A mask with this little spread, this close to 0 or 1, is a constant, not attention.
_SATURATED = 0.99

_DEAD = 0.001


def saturation(masks: Mapping[str, MaskStatistics]) -> list[str]:
    """What to say of masks of which nearly all values lie within 0.01 of 0 or 1."""
    return [
        f"the attention of {name} is saturated (mean {found.mean:.3f}, spread {found.spread:.4f}), "
        "so the module is a constant"
        for name, found in masks.items()
        if found.saturated >= _SATURATED
    ]


#: The default stage with modules, in victims that have it.
_USUAL = "layer2"

_NO_CLASSIFIER = (
    "the victim has no identity classifier; the identity loss takes the nearest centre of a training identity"
)

Share = Annotated[float, Field(gt=0, lt=1)]

Weight = Annotated[float, Field(ge=0)]

#: This project's own settings before the paper's full text was known.
_V1: dict[str, object] = {
    "evaluations": 12800,
    "batch": 64,
    "perturbations": "shared",
    "stages": None,
    "focus": None,
    "masks": "shared",
    "mask_start": 0.9,
    "rectify": False,
    "modules": "clean",
    "module_steps": 20,
    "delta": "adversarial",
    "optimizer": "own",
    "anchors": "clean",
    "margin": 2.0,
    "reduction": "mean",
    "space": "embedding",
    "images": "1+1",
    "labels": "predicted",
}


@dataclass(frozen=True)
class Terms:
    """The weighted identity losses and AQAL of a batch, and the share of active triples."""

    identity: list[Tensor]
    aqal: Tensor | None
    active: float

    @property
    def attack(self) -> Tensor:
        """What an attacker raises: the identity loss minus the AQAL."""
        return torch.stack([*self.identity, *([] if self.aqal is None else [-self.aqal])]).sum()

    @property
    def total(self) -> Tensor:
        """L_total of the paper, to be lowered: the sum of both."""
        return torch.stack([*self.identity, *([] if self.aqal is None else [self.aqal])]).sum()


@dataclass(frozen=True)
class FSAMUAP(UpdatedAttack):
    """A perturbation d, one for both modalities or one each, learnt through attention on phase and space.

    The modules FSAM and SFM are inserted into the frozen victim. At ``level`` "pixel" they are dropped after
    learning; at "feature" they stay in the attacked side's forward pass. d descends ``aqal_weight`` * L_AQAL
    and ascends the identity loss on the path x2 (all modules) and, with ``plain_weight``, on the unmodified
    victim.

    The preset "paper" is the method as the paper's text has it: a perturbation for each modality; FSAM after
    the first and the last stage, SFM after what the modalities share; the AQAL summed over class centres of
    batches of 16 identities x 4 images, alpha 0.2; true labels; section 4.1's training. Where that alpha
    leaves no triple active the fit goes on and says so. The text leaves open, and the preset chooses:

    - ``images`` "2+2": the stated batch of 64 images; "4+4" (with ``batch=128``) is the other reading.
    - ``anchors`` "adversarial": x1, which the equations take after FSAM, has the width of x2 only after the
      last stage. "x1_first" lets x1 part after the first FSAM and run through the plain stages; "clean" takes
      clean images. In rows without FSAM and SFM x1 = x2.
    - ``space`` "features": x1 and x2 are feature maps, and D is not said to be normalised, so D compares
      averaged maps of the last stage as they are; "maps" the maps themselves, "embedding" unit-length
      embeddings.
    - ``delta`` "adversarial": section 3.1 asks of d that it changes the output, so it raises the identity
      loss; with "total" it lowers L_total as the modules do; "fixed" is random signs, not learnt.
    - ``modules`` "total": the AQAL "optimises the entire module", so the modules lower L_total.
    - ``masks`` "per_modality": the text indexes both stages' masks by modality; with "first_stage" the second
      stage is one module. ``mask_start`` 0.5: no bias or initial weights are stated, and sigmoid(0) = 0.5.
    - ``rectify``: the inverse transform makes negative values, for which the generalised-mean pooling of AGW,
      behind the last FSAM, is not defined; they become 0 in maps that had none.
    - ``warmup`` 1/6: that of AGW's public script, 10 epochs, within 60. d starts as small noise, in pixels.
    - The victim is frozen: levels pixel and feature attack a system that exists.

    For a victim without an identity classifier the nearest centre of a training identity takes its place.

    "v1" are this project's settings before the paper's full text was known, and still those without a preset;
    "v1_paper" is what "paper" was then. "strong" has no modules: docs/ablation.md says what each ingredient
    does.

    ``reading`` is what the AQAL compares. "quadruple" is the published formula. "ranking" compares its one
    term that ranks a query with the other candidates of that ranking (see :class:`RankingLoss`). ``update``
    "sign" takes signed steps, "pooled" steps by dual averaging (see :class:`Pooling`).
    """

    name: ClassVar[str] = "fsam_uap"
    version: ClassVar[int] = 2
    summary: ClassVar[str] = (
        "universal: frequency-spatial attention with the auxiliary quadruple adversarial loss"
    )
    paper: ClassVar[str] = (
        "Yang et al., Feature-Level Adversarial Attacks and Ranking Disruption for VIReID, NeurIPS 2024"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "stages"})
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {
            "perturbations": "per_modality",
            "stages": "ends",
            "focus": "last",
            "masks": "per_modality",
            "mask_start": 0.5,
            "rectify": True,
            "modules": "total",
            "module_steps": 0,
            "optimizer": "sgd",
            "anchors": "adversarial",
            "margin": 0.2,
            "reduction": "sum",
            "space": "features",
            "images": "2+2",
            "labels": "true",
        },
        "v1": _V1,
        "v1_paper": {**_V1, "anchors": "adversarial", "stages": "all"},
        "strong": {
            "fsam": False,
            "sfm": False,
            "reading": "ranking",
            "margin": 0.5,
            "identity_weight": 0.3,
            "batch": 16,
        },
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        # Section 4.1's; the paper does not say how long d is learnt.
        "published": {"epochs": 60},
    }

    level: Literal["pixel", "feature", "model"] = param(
        "pixel", "pixel: only d is kept; feature: modules stay too; model: the victim itself is trained"
    )
    start: Literal["victim", "scratch"] = param(
        "victim", "level=model: train from the victim's weights, or from random ones"
    )
    perturbations: Literal["shared", "per_modality"] = param(
        "shared", "one d for both modalities, or one for each"
    )
    fsam: bool = param(True, "attention on the phase of feature maps")
    sfm: bool = param(True, "attention on feature maps")
    aqal: bool = param(True, "auxiliary quadruple adversarial loss")
    identity: bool = param(True, "d raises the identity loss")
    stages: tuple[str, ...] | str | None = param(
        None,
        "stages with modules, comma separated; all; ends (first and last); none means layer2, or the middle "
        "one without it",
    )
    focus: tuple[str, ...] | str | None = param(
        None, "stages with SFM instead: names, or last; none means those of FSAM"
    )
    masks: Masks = param("shared", "whose masks have weights of their own")
    rectify: bool = param(False, "FSAM keeps maps without negative values so, as a ReLU would")
    attention: Literal["cbam_spatial", "se", "eca", "identity"] = param(
        "cbam_spatial", "kind of attention; identity forces masks of one (a control)"
    )
    mask_start: Share = param(0.9, "value near which the masks start")
    modules: Literal["clean", "joint", "total"] = param(
        "clean", "what the modules learn: identity; also to help d; to lower L_total (optimizer=sgd)"
    )
    module_steps: Annotated[int, Field(ge=0)] = param(20, "updates of the modules on clean images first")
    module_rate: Annotated[float, Field(gt=0)] = param(1e-3, "learning rate of the modules (Adam)")
    keep_weight: Weight = param(1.0, "joint modules: weight of keeping identities on clean images")
    delta: Literal["adversarial", "total", "fixed", "zero"] = param(
        "adversarial",
        "what d learns: to raise identity loss; to lower L_total; fixed: random signs; zero: no d "
        "(optimizer=sgd)",
    )
    optimizer: Literal["own", "sgd"] = param(
        "own", "own: update for d, Adam for the modules; sgd: section 4.1 for both"
    )
    sgd_rate: Annotated[float, Field(gt=0)] = param(0.1, "sgd: learning rate")
    warmup: Annotated[float, Field(ge=0, lt=1)] = param(1 / 6, "sgd: share of the updates with a rising rate")
    reading: Literal["quadruple", "ranking"] = param(
        "quadruple", "AQAL as published, or over the candidates of a ranking"
    )
    anchors: Literal["clean", "adversarial", "x1_first"] = param(
        "clean", "what x1 is: clean, after all FSAM, or after the first one; ranking takes clean ones"
    )
    margin: float = param(2.0, "alpha of the AQAL; for ranking in units of the clean gap")
    hinge: Hinge = param("relu", "relu, or soft for a hinge that never goes dead")
    reduction: Reduction = param("mean", "AQAL over the pairs of identities: sum as published, or mean")
    space: Literal["embedding", "features", "maps"] = param(
        "embedding", "AQAL on unit-length embeddings, or on the last feature map, averaged or whole"
    )
    aqal_weight: float = param(1.0, "weight of the AQAL; negative makes d ascend it")
    identity_weight: Weight = param(1.0, "weight of the identity loss on the path x2")
    plain_weight: Weight = param(0.0, "weight of the identity loss on the unmodified victim")
    labels: Literal["predicted", "true"] = param(
        "predicted", "labels of the identity loss; true ones where they are the classifier's classes"
    )
    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    epochs: Annotated[int, Field(ge=1)] | None = param(
        None, "passes over the training images instead; 60 are the published effort"
    )
    batch: Annotated[int, Field(ge=4)] = param(64, "images per update, half of each modality")
    images: Literal["1+1", "2+2", "4+4"] = param(
        "1+1", "visible and infrared images of each identity in a batch; several form a class centre"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.aqal or self.identity):
            raise BadInput("fsam_uap: with aqal=false and identity=false the perturbation has no objective")
        if self.level == "feature" and not (self.fsam or self.sfm):
            raise BadInput("fsam_uap: level=feature needs fsam or sfm, there is no module to keep otherwise")
        if self.reading == "ranking" and (self.anchors, self.space, self.images) != (
            "clean",
            "embedding",
            "1+1",
        ):
            raise BadInput(
                "fsam_uap: reading=ranking compares embeddings with clean centroids; other anchors, "
                "space=features or maps and images=2+2 need reading=quadruple"
            )

    @property
    def tampers(self) -> bool:
        return self.level != "pixel"

    @property
    def retrains(self) -> bool:
        return self.level == "model"

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Also refuse a stage that the victim does not have, and what cannot be trained."""
        super().check(victim, threat)
        if self.optimizer == "own" and (
            self.modules == "total" or self.delta != "adversarial" or self.retrains
        ):
            raise BadInput(
                "fsam_uap: level=model, modules=total and another delta than adversarial need "
                "optimizer=sgd; see preset=paper"
            )
        if self.retrains and not victim.num_classes:
            raise BadInput(f"fsam_uap: level=model trains an identity classifier; {victim.name} has none")
        if self.retrains and not self.identity:
            raise BadInput(
                "fsam_uap: level=model needs identity=true: its control without AQAL has no other loss"
            )
        clean = self.anchors == "clean" and self.space == "embedding"
        if self.retrains and (self.reading == "ranking" or clean or self.modules != "total"):
            raise BadInput(
                "fsam_uap: level=model lowers L_total on points of the model in training; it needs "
                "modules=total, reading=quadruple, and another space than embedding for clean anchors"
            )
        self._stages(victim)
        self._focus(victim)

    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        count = min(self.batch // (2 * self._each), len(train.identities))
        if count < 2:
            raise BadInput("fsam_uap needs at least two training identities with images in both modalities")
        log: dict[str, object] = {}
        if not victim.num_classes:
            train = train.with_centres()
        untouched, weights = victim, []
        if self.retrains:
            victim = in_training(victim, self.start == "scratch", generator)
            weights = [parameter for parameter in victim.parameters() if parameter.requires_grad]
            train = augmented(train, generator)
        elif self.labels == "true":
            train, log["true_labels"] = with_true_labels(train)
        like = train[Modality.VISIBLE].embeddings
        modules = self._modules(untouched, generator).to(like)
        trainer = ModuleTrainer(victim, train, modules, self.module_rate, self.keep_weight, self._each)
        before, each_update = trainer.price(self.module_steps, count), self._per_update(count)
        sizes = [len(train[modality].labels) for modality in Modality]
        evaluations = self.fit_cost(untouched, sizes, len(train.identities))
        passes = evaluations if self.epochs is None else before + evaluations
        updates = updates_for(passes, each_update, self.name, before)
        milestones: tuple[float, ...] = MILESTONES
        if self.retrains:
            epochs, stones = schedule_of(untouched)
            milestones = tuple(stone / epochs for stone in stones)
            updates = evaluations // each_update
        trainer.learn_to_keep(self.module_steps, count, generator)
        active: list[float] = []
        ranking = RankingLoss(train, victim.similarity) if self.reading == "ranking" else None

        def terms(delta: Tensor, positions: Mapping[Modality, Tensor]) -> Terms:
            return self._terms(victim, train, modules, delta, positions, ranking)

        def objective(delta: Tensor) -> Tensor:
            _, positions = train.pairs(count, generator, self._each)
            if self._joint and torch.is_grad_enabled():
                trainer.help_attack(positions, lambda: terms(delta.detach(), positions).attack)
            found = terms(delta, positions)
            active.append(found.active)
            return found.attack

        def losses(delta: Tensor) -> tuple[Tensor | None, Tensor | None]:
            _, positions = train.pairs(count, generator, self._each)
            found = terms(delta, positions)
            active.append(found.active)
            own = {"adversarial": -found.attack, "total": found.total}.get(self.delta)
            if self._joint:
                return own, self.keep_weight * trainer.keep(positions) - found.attack
            learning = self.modules == "total" and (trainer.parameters or weights)
            return own, found.total if learning else None

        channels = 6 if self.perturbations == "per_modality" else 3
        if self.optimizer == "own":
            images = 2 * count * self._each
            delta = self.climb(victim, train, objective, threat, generator, updates, images, quiet, channels)
        else:
            start = small_start((channels, *victim.input_size), threat, generator, like)
            start = {"fixed": start.sign() * threat.epsilon, "zero": start * 0}.get(self.delta, start)
            schedule = rates(updates, self.sgd_rate, self.warmup, milestones)
            label = f"training {untouched.name}" if self.retrains else f"learning {self.name}"
            learnable = [*trainer.parameters, *weights]
            with own_random_state(generator) if self.retrains else nullcontext():
                delta = learn_by_sgd(start, learnable, losses, threat, schedule, label, quiet)
        victim.eval()
        masks = trainer.mask_statistics(count, generator)
        saturated = [] if self.attention == "identity" else saturation(masks)
        if saturated and self.optimizer == "own":
            raise VbenchError(f"fsam_uap: {saturated[0]}; lower module_steps or module_rate")
        share = sum(active) / len(active) if self.aqal else None
        kept = {name: value.clone() for name, value in modules.state_dict().items()} if self.tampers else {}
        if self.retrains:
            kept |= {WEIGHTS + name: value.detach().clone() for name, value in victim.state_dict().items()}
            log["weights"] = moved(untouched, victim)
        log |= {
            "active_triples": share,
            "masks": {name: vars(found) for name, found in masks.items()},
            "updates": updates,
            "warnings": [
                *saturated,
                *([] if untouched.num_classes else [_NO_CLASSIFIER]),
                *([f"AQAL inactive ({share:.1%} of triples)".replace("%", " %")] if _dead(share) else []),
            ],
        }
        infrared = delta[3:].clone() if channels == 6 else None
        return Perturbation(delta[:3].clone(), kept, fit_log=log, infrared=infrared)

    def edits(self, perturbation: Perturbation, victim: Victim) -> AnyEdits:
        if not perturbation.modules:
            return {}
        modules = self._modules(victim, Generator().manual_seed(0))
        expected = {name: value.shape for name, value in modules.state_dict().items()}
        kept = {name: one for name, one in perturbation.modules.items() if not name.startswith(WEIGHTS)}
        if expected != {name: value.shape for name, value in kept.items()}:
            raise BadInput(f"the perturbation's feature modules do not fit {victim.name} at these stages")
        modules.load_state_dict(kept)
        modules.to(example_tensor(victim)).requires_grad_(False)
        edits = {modality: modules.edits(modality) for modality in Modality}
        return edits[Modality.VISIBLE] if self.masks == "shared" else edits

    def tampered(self, perturbation: Perturbation, victim: Victim) -> Victim:
        edits = self.edits(perturbation, victim)
        return with_weights(
            victim, perturbation.weights, {modality: edits_of(edits, modality) for modality in Modality}
        )

    def variants(self) -> dict[str, UniversalAttack]:
        if not self.retrains:
            return {}
        still = replace(self, delta="zero")
        return {
            "without AQAL": replace(self, aqal=False),
            "without modules": replace(self, fsam=False, sfm=False),
            "without perturbation": still,
            REFERENCE: replace(still, aqal=False),
        }

    def fit_cost(self, victim: Victim, images: Sequence[int], identities: int) -> int:
        count = min(self.batch // (2 * self._each), identities)
        if self.retrains:
            epochs = self.epochs or schedule_of(victim)[0]
            return epochs * math.ceil(max(images) / (count * self._each)) * self._per_update(count)
        if self.epochs is None:
            return self.evaluations
        return self.epochs * sum(images) * self._per_update(count) // (2 * count * self._each)

    def controls(self, perturbation: Perturbation, victim: Victim, generator: Generator) -> list[Control]:
        if self.level != "feature":
            return []
        still = perturbation.still()
        untrained = self._modules(victim, generator).state_dict()
        return [
            Control("modules, d = 0", still, tampers=True),
            Control("random modules, d = 0", replace(still, modules=untrained), tampers=True),
            Control("random modules + d", replace(perturbation, modules=untrained), tampers=True),
            Control("d alone (pixel level)", replace(perturbation, modules={}), tampers=False),
            Control("modules on the other side, d = 0", still, tampers=True, side="other"),
        ]

    @property
    def _each(self) -> int:
        return int(self.images[0])

    @property
    def _has_modules(self) -> bool:
        return self.fsam or self.sfm

    @property
    def _joint(self) -> bool:
        # Modules forced to the identity have nothing to learn and cost nothing.
        return self.modules == "joint" and self._has_modules and self.attention != "identity"

    def _modules(self, victim: Victim, generator: Generator) -> FeatureModules:
        frequency = self._stages(victim) if self.fsam else ()
        spatial = self._focus(victim) if self.sfm else ()
        wanted = {*frequency, *spatial}
        if not wanted:
            return FeatureModules({}, (), (), self.attention, self.mask_start, generator, self.masks)
        like = example_tensor(victim)
        probe = torch.zeros((1, 3, *victim.input_size), device=like.device, dtype=like.dtype)
        with torch.no_grad():
            features = victim(probe, Modality.VISIBLE).features
        for stage in wanted:
            if stage not in features or features[stage].ndim != 4:
                raise VbenchError(
                    f"{victim.name}: stage {stage} is declared, and its pass returns no map of it"
                )
        channels = {stage: features[stage].shape[1] for stage in victim.stages if stage in wanted}
        return FeatureModules(
            channels,
            frequency,
            spatial,
            self.attention,
            self.mask_start,
            generator,
            self.masks,
            self.rectify,
        )

    def _stages(self, victim: Victim) -> tuple[str, ...]:
        """The stages with modules; BadInput, with the nearest name, for one that the victim does not have."""
        if self.stages is None:
            return (_USUAL if _USUAL in victim.stages else victim.stages[len(victim.stages) // 2],)
        return _named(victim, self.stages)

    def _focus(self, victim: Victim) -> tuple[str, ...]:
        """The stages with SFM."""
        return self._stages(victim) if self.focus is None else _named(victim, self.focus)

    @property
    def _x1(self) -> Path:
        """The path of x1 if it is adversarial: "x2" where both are one."""
        if self.anchors == "clean" or not (self.aqal and self._has_modules):
            return "x2"
        if self.anchors == "x1_first":
            return "x1_first"
        return "x1" if self.sfm else "x2"

    @property
    def _separate_x1(self) -> bool:
        return self._x1 != "x2"

    @property
    def _plain_path(self) -> bool:
        return self.identity and self._has_modules and self.plain_weight > 0

    def _per_update(self, count: int) -> int:
        passes = 1 + self._separate_x1 + self._plain_path
        # A joint update of the modules adds one pass on clean images and, unless the same pass serves both,
        # repeats all paths.
        joint = passes * (2 if self.optimizer == "own" else 1) + 1
        return 2 * count * self._each * (joint if self._joint else passes)

    def _terms(
        self,
        victim: Victim,
        train: TrainingView,
        modules: FeatureModules,
        delta: Tensor,
        positions: Mapping[Modality, Tensor],
        ranking: RankingLoss | None,
    ) -> Terms:
        x1, x2, terms = {}, {}, []
        for modality, own in _deltas(delta).items():
            view, index = train[modality], positions[modality]
            images = (view.batch(index) + own).clamp(0, 1)
            forked = self._separate_x1 and victim.forks
            edits = modules.forked_edits(modality, self._x1) if forked else modules.edits(modality)
            output = victim(images, modality, edits)
            x2[modality] = x1[modality] = self._point(output)
            if forked:
                x1[modality], x2[modality] = x2[modality].chunk(2)
                logits = None if output.logits is None else output.logits.chunk(2)[1]
                output = replace(output, embedding=output.embedding.chunk(2)[1], logits=logits)
            elif self.anchors == "clean" and ranking is None:
                x1[modality] = self._clean_point(victim, view, index, modality)
            elif self._separate_x1:
                x1[modality] = self._point(victim(images, modality, modules.edits(modality, self._x1)))
            if self.identity:
                terms.append(self.identity_weight * view.identity_loss(output, index))
                if self._plain_path:
                    plain = victim(images, modality)
                    terms.append(self.plain_weight * view.identity_loss(plain, index))
        if not self.aqal:
            return Terms(terms, None, 0.0)
        loss = self._aqal(x1, x2) if ranking is None else ranking(x2, positions, self.margin, self.hinge)
        return Terms(terms, self.aqal_weight * loss.loss, loss.active)

    def _point(self, output: VictimOutput) -> Tensor:
        if self.reading == "ranking":
            return output.embedding
        if self.space == "embedding":
            return normalize(output.embedding, dim=1)
        last = output.features[list(output.features)[-1]]
        return last.flatten(1) if self.space == "maps" else last.mean((2, 3))

    @torch.no_grad()
    def _clean_point(self, victim: Victim, view: ModalityView, index: Tensor, modality: Modality) -> Tensor:
        if self.space == "embedding":
            return normalize(view.embeddings[index], dim=1)
        return self._point(victim(view.batch(index), modality))

    def _aqal(self, x1: dict[Modality, Tensor], x2: dict[Modality, Tensor]) -> AQALValue:
        points = [
            centres(one[modality], self._each)
            for one in (x2, x1)
            for modality in (Modality.VISIBLE, Modality.INFRARED)
        ]
        return aqal(points[0], points[1], points[2], points[3], self.margin, self.hinge, self.reduction)


def _dead(share: float | None) -> bool:
    return share is not None and share < _DEAD


def _deltas(delta: Tensor) -> dict[Modality, Tensor]:
    """The perturbation for each modality; six channels are visible, then infrared."""
    found = by_modality(delta)
    if delta.shape[1] == 3:
        return found
    return dict(zip(Modality, (found[Modality.VISIBLE][:, :3], found[Modality.INFRARED][:, 3:]), strict=True))


def _named(victim: Victim, wanted: tuple[str, ...] | str) -> tuple[str, ...]:
    """Stages by name, or by "all", "ends", "last"."""
    ends = tuple(dict.fromkeys((victim.stages[0], victim.stages[-1])))
    short: dict[object, tuple[str, ...]] = {"all": victim.stages, "ends": ends, "last": victim.stages[-1:]}
    if wanted in short and wanted not in victim.stages:
        return short[wanted]
    names = (wanted,) if isinstance(wanted, str) else wanted
    for stage in names:
        if stage not in victim.stages:
            raise unknown_name(f"stage of {victim.name}", stage, victim.stages)
    return tuple(names)
