"""The attack ``fsam_uap``: settings, learning, controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import normalize

from vbench.attacks.base import Control
from vbench.attacks.fsam_uap.losses import AQALValue, Hinge, RankingLoss, aqal
from vbench.attacks.fsam_uap.modules import FeatureModules, MaskStatistics
from vbench.attacks.fsam_uap.training import ModuleTrainer
from vbench.attacks.perturbation import Perturbation
from vbench.attacks.training import ModalityView, TrainingView
from vbench.attacks.updates import UpdatedAttack, by_modality, updates_for
from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.settings import param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput, example_tensor

#: A mask with this little spread, this close to 0 or 1, is a constant, not attention.
_SATURATED = 0.99

_DEAD = 0.001


def refuse_saturation(masks: Mapping[str, MaskStatistics]) -> None:
    """Raise :class:`VbenchError` when nearly all values of a mask lie within 0.01 of 0 or 1."""
    for name, found in masks.items():
        if found.saturated >= _SATURATED:
            raise VbenchError(
                f"fsam_uap: the attention of {name} is saturated (mean {found.mean:.3f}, spread "
                f"{found.spread:.4f}), so the module is a constant; lower module_steps or module_rate"
            )


def refuse_dead_hinge(active: Sequence[float]) -> None:
    """Raise :class:`VbenchError` if the AQAL had (almost) no active triple over the whole fit."""
    share = sum(active) / len(active)
    if share < _DEAD:
        raise VbenchError(
            f"fsam_uap: the AQAL hinge is dead ({share:.2%} active triples), so the loss does nothing; "
            "raise margin, set hinge=soft, or switch it off with aqal=false"
        )


#: The default stage with modules, in victims that have it.
_USUAL = "layer2"

Share = Annotated[float, Field(gt=0, lt=1)]

Weight = Annotated[float, Field(ge=0)]


@dataclass(frozen=True)
class FSAMUAP(UpdatedAttack):
    """One perturbation d for both modalities, learnt through attention on phase and space.

    d descends ``aqal_weight`` * L_AQAL and ascends the identity loss on the path x2 (all modules) and, with
    ``plain_weight``, on the unmodified victim. The modules learn on clean features to keep identities
    (``modules`` "clean"), and with "joint" also to help d. At ``level`` "pixel" they are dropped after
    learning; at "feature" they stay in the attacked side's forward pass.

    ``reading`` is what the AQAL compares. "quadruple" is the published formula, with ``anchors`` for x1:
    clean embeddings of the unmodified victim, or adversarial ones after the frequency module alone. "ranking"
    compares its one term that ranks a query with the other candidates of that ranking (see
    :class:`RankingLoss`). ``update`` "sign" steps as the paper does, "pooled" by dual averaging (see
    :class:`Pooling`).

    The preset "paper" is the published loss with an alpha at which triples are active; the paper does not
    state alpha, step size and number of updates. "strong" has no modules: docs/ablation.md says what each
    ingredient does.
    """

    name: ClassVar[str] = "fsam_uap"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = (
        "universal: frequency-spatial attention with the auxiliary quadruple adversarial loss"
    )
    paper: ClassVar[str] = (
        "Yang et al., Feature-Level Adversarial Attacks and Ranking Disruption for VIReID, NeurIPS 2024"
    )
    needs: ClassVar[frozenset[str]] = frozenset({"gradients", "logits", "stages"})
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "paper": {"anchors": "adversarial", "stages": "all"},
        "strong": {
            "fsam": False,
            "sfm": False,
            "reading": "ranking",
            "margin": 0.5,
            "identity_weight": 0.3,
            "batch": 16,
        },
        # What version 1 did, with its defaults.
        "v1": {
            "evaluations": 12800,
            "batch": 64,
            "fsam": True,
            "sfm": True,
            "stages": None,
            "reading": "quadruple",
            "anchors": "clean",
            "margin": 2.0,
            "identity_weight": 1.0,
        },
    }
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "standard": {"evaluations": 12800},
        # Sixty epochs over SYSU-MM01's 34,167 training images; the paper does not say how long d is learnt.
        "published": {"evaluations": 60 * 34_167},
    }

    level: Literal["pixel", "feature"] = param("pixel", "pixel: only d is kept; feature: modules stay too")
    fsam: bool = param(True, "attention on the phase of feature maps")
    sfm: bool = param(True, "attention on feature maps")
    aqal: bool = param(True, "auxiliary quadruple adversarial loss")
    identity: bool = param(True, "d raises the identity loss")
    stages: tuple[str, ...] | str | None = param(
        None, "stages with modules, comma separated, or all; none means layer2, or the middle one without it"
    )
    attention: Literal["cbam_spatial", "se", "eca", "identity"] = param(
        "cbam_spatial", "kind of attention; identity forces masks of one (a control)"
    )
    mask_start: Share = param(0.9, "value near which the masks start")
    modules: Literal["clean", "joint"] = param("clean", "what the modules learn: identity, or to help d too")
    module_steps: Annotated[int, Field(ge=0)] = param(20, "updates of the modules on clean images first")
    module_rate: Annotated[float, Field(gt=0)] = param(1e-3, "learning rate of the modules (Adam)")
    keep_weight: Weight = param(1.0, "joint modules: weight of keeping identities on clean images")
    reading: Literal["quadruple", "ranking"] = param(
        "quadruple", "AQAL as published, or over the candidates of a ranking"
    )
    anchors: Literal["clean", "adversarial"] = param("clean", "what x1 is; ranking takes clean ones")
    margin: float = param(2.0, "alpha of the AQAL; for ranking in units of the clean gap")
    hinge: Hinge = param("relu", "relu, or soft for a hinge that never goes dead")
    space: Literal["embedding", "features"] = param(
        "embedding", "AQAL on unit-length embeddings, or on the averaged last feature map"
    )
    aqal_weight: float = param(1.0, "weight of the AQAL; negative makes d ascend it")
    identity_weight: Weight = param(1.0, "weight of the identity loss on the path x2")
    plain_weight: Weight = param(0.0, "weight of the identity loss on the unmodified victim")
    evaluations: Annotated[int, Field(ge=1)] = param(12800, "gradient evaluations (images) to spend")
    batch: Annotated[int, Field(ge=4)] = param(64, "images per update, half of each modality")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.aqal or self.identity):
            raise BadInput("fsam_uap: with aqal=false and identity=false the perturbation has no objective")
        if self.level == "feature" and not (self.fsam or self.sfm):
            raise BadInput("fsam_uap: level=feature needs fsam or sfm, there is no module to keep otherwise")
        if self.reading == "ranking" and (self.anchors, self.space) != ("clean", "embedding"):
            raise BadInput(
                "fsam_uap: reading=ranking compares embeddings with clean centroids; "
                "anchors=adversarial and space=features need reading=quadruple"
            )

    @property
    def tampers(self) -> bool:
        return self.level == "feature"

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Also refuse a stage that the victim does not have."""
        super().check(victim, threat)
        self._stages(victim)

    def learn(
        self,
        victim: Victim,
        train: TrainingView,
        threat: ThreatModel,
        generator: torch.Generator,
        quiet: bool,
    ) -> Perturbation:
        count = min(self.batch // 2, len(train.identities))
        if count < 2:
            raise BadInput("fsam_uap needs at least two training identities with images in both modalities")
        modules = self._modules(victim, generator).to(train[Modality.VISIBLE].embeddings)
        trainer = ModuleTrainer(victim, train, modules, self.module_rate, self.keep_weight)
        before = trainer.price(self.module_steps, count)
        updates = updates_for(self.evaluations, self._per_update(count), self.name, before)
        trainer.learn_to_keep(self.module_steps, count, generator)
        active: list[float] = []
        ranking = RankingLoss(train, victim.similarity) if self.reading == "ranking" else None

        def objective(delta: Tensor) -> Tensor:
            _, positions = train.pairs(count, generator)
            if self._joint and torch.is_grad_enabled():
                trainer.help_attack(
                    positions,
                    lambda: self._value(victim, train, modules, delta.detach(), positions, ranking)[0],
                )
            value, share = self._value(victim, train, modules, delta, positions, ranking)
            active.append(share)
            return value

        delta = self.climb(victim, train, objective, threat, generator, updates, 2 * count, quiet)
        masks = trainer.mask_statistics(count, generator)
        if self.attention != "identity":
            refuse_saturation(masks)
        if self.aqal:
            refuse_dead_hinge(active)
        kept = {name: value.clone() for name, value in modules.state_dict().items()} if self.tampers else {}
        log = {
            "active_triples": sum(active) / len(active) if self.aqal else None,
            "masks": {name: vars(found) for name, found in masks.items()},
            "updates": updates,
        }
        return Perturbation(delta, kept, fit_log=log)

    def edits(self, perturbation: Perturbation, victim: Victim) -> Edits:
        if not perturbation.modules:
            return {}
        modules = self._modules(victim, torch.Generator().manual_seed(0))
        expected = {name: value.shape for name, value in modules.state_dict().items()}
        found = {name: value.shape for name, value in perturbation.modules.items()}
        if expected != found:
            raise BadInput(f"the perturbation's feature modules do not fit {victim.name} at these stages")
        modules.load_state_dict(dict(perturbation.modules))
        return modules.to(example_tensor(victim)).requires_grad_(False).edits()

    def controls(
        self, perturbation: Perturbation, victim: Victim, generator: torch.Generator
    ) -> list[Control]:
        if not self.tampers:
            return []
        still = replace(perturbation, delta=torch.zeros_like(perturbation.delta))
        untrained = self._modules(victim, generator).state_dict()
        return [
            Control("modules, d = 0", still, tampers=True),
            Control("random modules, d = 0", replace(still, modules=untrained), tampers=True),
            Control("random modules + d", replace(perturbation, modules=untrained), tampers=True),
            Control("d alone (pixel level)", replace(perturbation, modules={}), tampers=False),
            Control("modules on the other side, d = 0", still, tampers=True, side="other"),
        ]

    @property
    def _has_modules(self) -> bool:
        return self.fsam or self.sfm

    @property
    def _joint(self) -> bool:
        # Modules forced to the identity have nothing to learn and cost nothing.
        return self.modules == "joint" and self._has_modules and self.attention != "identity"

    def _modules(self, victim: Victim, generator: torch.Generator) -> FeatureModules:
        if not self._has_modules:
            return FeatureModules({}, self.attention, False, False, self.mask_start, generator)
        wanted = self._stages(victim)
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
        return FeatureModules(channels, self.attention, self.fsam, self.sfm, self.mask_start, generator)

    def _stages(self, victim: Victim) -> tuple[str, ...]:
        """The stages with modules; BadInput, with the nearest name, for one that the victim does not have."""
        if self.stages is None:
            return (_USUAL if _USUAL in victim.stages else victim.stages[len(victim.stages) // 2],)
        wanted = victim.stages if self.stages == "all" else self.stages
        wanted = (wanted,) if isinstance(wanted, str) else wanted
        for stage in wanted:
            if stage not in victim.stages:
                raise unknown_name(f"stage of {victim.name}", stage, victim.stages)
        return tuple(wanted)

    @property
    def _separate_x1(self) -> bool:
        return self.aqal and self.anchors == "adversarial" and self.sfm

    @property
    def _plain_path(self) -> bool:
        return self.identity and self._has_modules and self.plain_weight > 0

    def _per_update(self, count: int) -> int:
        passes = 1 + self._separate_x1 + self._plain_path
        # A joint update of the modules repeats all paths and adds one pass on clean images.
        return 2 * count * (2 * passes + 1 if self._joint else passes)

    def _value(
        self,
        victim: Victim,
        train: TrainingView,
        modules: FeatureModules,
        delta: Tensor,
        positions: Mapping[Modality, Tensor],
        ranking: RankingLoss | None,
    ) -> tuple[Tensor, float]:
        x1, x2, terms = {}, {}, []
        for modality, own in by_modality(delta).items():
            view, index = train[modality], positions[modality]
            images = (view.batch(index) + own).clamp(0, 1)
            forked = self._separate_x1 and victim.forks
            output = victim(images, modality, modules.forked_edits() if forked else modules.edits())
            x2[modality] = x1[modality] = self._point(output)
            logits = output.logits
            if forked:
                x1[modality], x2[modality] = x2[modality].chunk(2)
                logits = None if logits is None else logits.chunk(2)[1]
            elif self.anchors == "clean" and ranking is None:
                x1[modality] = self._clean_point(victim, view, index, modality)
            elif self._separate_x1:
                x1[modality] = self._point(victim(images, modality, modules.frequency_edits()))
            if self.identity:
                terms.append(self.identity_weight * view.identity_loss(logits, index))
                if self._plain_path:
                    plain = victim(images, modality).logits
                    terms.append(self.plain_weight * view.identity_loss(plain, index))
        share = 0.0
        if self.aqal:
            loss = self._aqal(x1, x2) if ranking is None else ranking(x2, positions, self.margin, self.hinge)
            share = loss.active
            terms.append(-self.aqal_weight * loss.loss)
        return torch.stack(terms).sum(), share

    def _point(self, output: VictimOutput) -> Tensor:
        if self.reading == "ranking":
            return output.embedding
        if self.space == "embedding":
            return normalize(output.embedding, dim=1)
        return output.features[list(output.features)[-1]].mean((2, 3))

    @torch.no_grad()
    def _clean_point(self, victim: Victim, view: ModalityView, index: Tensor, modality: Modality) -> Tensor:
        if self.space == "embedding":
            return normalize(view.embeddings[index], dim=1)
        return self._point(victim(view.batch(index), modality))

    def _aqal(self, x1: dict[Modality, Tensor], x2: dict[Modality, Tensor]) -> AQALValue:
        v, i = Modality.VISIBLE, Modality.INFRARED
        return aqal(x2[v], x2[i], x1[v], x1[i], self.margin, self.hinge)
