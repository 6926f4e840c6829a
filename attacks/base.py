"""Attack, PerImageAttack, UniversalAttack, Battery, Context, Control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from vbench.attacks.perturbation import Perturbation
from vbench.attacks.returned import own_images, own_perturbation
from vbench.attacks.training import TrainingView
from vbench.core.errors import BadInput, VbenchError
from vbench.core.processes import check_equal
from vbench.core.settings import as_dict, validate
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality, Side
from vbench.victims.base import Edits, Victim, frozen


@dataclass(frozen=True)
class Gallery:
    """What an attack that declares ``gallery`` knowledge may see: the other side of the ranking.

    ``embeddings``: G x D, clean, and ``ids``: G, of what the attacked images are ranked against (of the
    queries, where gallery images are attacked); ``query_ids``: identities of the attacked images.
    """

    embeddings: Tensor
    ids: Tensor
    query_ids: Tensor


@dataclass(frozen=True)
class Context:
    """What the threat model lets a per-image attack know about its N images, and nothing else.

    ``seeds``: N integers, one an image, so that chance depends on neither batch size nor order.
    ``clean``: N x D clean embeddings; ``predictions``: N classes that the victim's classifier gives the clean
    images, None where it has none or was not asked. ``prototypes``: per modality, C x D training-set
    centroids; present when the attack declares ``training`` knowledge. ``gallery``: present when it declares
    ``gallery``.
    """

    threat: ThreatModel
    seeds: tuple[int, ...]
    clean: Tensor
    prototypes: Mapping[Modality, Tensor] = field(default_factory=dict)
    gallery: Gallery | None = None
    predictions: Tensor | None = None

    def uniform(self, images: Tensor, scale: float = 1.0) -> Tensor:
        """Noise like ``images``, uniform in [-scale * eps, scale * eps], from each image's own seed."""
        draws = torch.empty(images.shape, dtype=torch.float64)
        generator = torch.Generator()
        for row, seed in zip(draws, self.seeds, strict=True):
            torch.rand(row.shape, generator=generator.manual_seed(seed), dtype=torch.float64, out=row)
        return draws.mul_(2).sub_(1).to(images) * (self.threat.epsilon * scale)


@dataclass(frozen=True)
class Attack(ABC):
    """Hyper-parameters of one attack. Frozen: its ``repr`` is its whole setting."""

    #: Registry name.
    name: ClassVar[str]
    #: Of vbench's own attacks, each class for itself: raised when the attack does something else than before.
    #: Records of another number do not answer for it. Everybody else's code is told apart by its source.
    version: ClassVar[int]
    #: One line for ``vbench list``.
    summary: ClassVar[str]
    #: Where the attack was published, empty for none.
    paper: ClassVar[str] = ""
    #: One perturbation for every image, learnt on training identities.
    universal: ClassVar[bool]
    #: What the victim must offer: "gradients", "logits", "stages", "embeddings" (all that a black box sees).
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    #: Of a per-image attack with its default settings: images that it sends forward and backward through the
    #: victim, and forward only, for each image that it attacks.
    gradients_per_image: ClassVar[int] = 0
    forwards_per_image: ClassVar[int] = 0
    #: Norms the attack can work in.
    norms: ClassVar[frozenset[str]] = frozenset({"linf"})

    def __post_init__(self) -> None:
        validate(self, self.name)

    @property
    def knowledge(self) -> frozenset[str]:
        """What the attacker knows beyond the victim and the image: "training", "gallery"."""
        return frozenset()

    def settings(self) -> dict[str, object]:
        """All parameters, JSON-able."""
        return as_dict(self)

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Refuse, before any work, a victim or a budget that this attack cannot be used with."""
        if "logits" in self.needs and not victim.num_classes:
            raise BadInput(f"attack '{self.name}' needs an identity classifier; {victim.name} has none")
        if "stages" in self.needs and not victim.stages:
            raise BadInput(f"attack '{self.name}' needs feature maps; {victim.name} declares no stages")
        if threat.norm not in self.norms:
            known = ", ".join(sorted(self.norms))
            raise BadInput(f"attack '{self.name}' works in {known}, not in {threat.norm}")


class PerImageAttack(Attack):
    """An attack that crafts each image on its own; subclasses write :meth:`craft`."""

    universal = False

    def perturb(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        """Adversarial images of the same shape (N x 3 x H x W, [0, 1]) for images of one modality.

        The attack works on a copy of the images. The victim's flags and buffers are restored, also after an
        exception. Raises :class:`VbenchError` when the attack returns anything but finite images of that
        shape.
        """
        self.check(victim, context.threat)
        with frozen(victim), torch.enable_grad():
            adversarial = self.craft(victim, images.detach().clone(), modality, context)
        return own_images(f"attack '{self.name}'", adversarial, images)

    @abstractmethod
    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        """The attack itself, on a frozen victim."""


@dataclass(frozen=True)
class Control:
    """A variant of a universal attack that must be shown beside it, so that its effect can be read.

    ``side`` "attacked" changes the side under attack as the attack itself would; "other" changes the side
    that is not attacked, and leaves the attacked one clean.
    """

    name: str
    perturbation: Perturbation
    tampers: bool
    side: str = "attacked"


class UniversalAttack(Attack):
    """An attack that is learnt once on training identities, then applied; subclasses write :meth:`learn`."""

    universal = True

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset({"training"})

    @property
    def tampers(self) -> bool:
        """Whether the attack also changes features inside the victim at test time."""
        return False

    def fit(
        self,
        victim: Victim,
        train: TrainingView,
        threat: ThreatModel,
        generator: torch.Generator,
        quiet: bool = False,
    ) -> Perturbation:
        """Learn one perturbation on training identities; the same generator state gives the same bits.

        The victim is restored exactly, also after an exception. Raises :class:`VbenchError` when what was
        learnt is no finite perturbation, cannot be stored, or is not the same on all processes of the run,
        when the attack finds that its own terms do nothing, or the device runs out of memory.
        """
        self.check(victim, threat)
        try:
            with frozen(victim), torch.enable_grad():
                perturbation = self.learn(victim, train, threat, generator, quiet)
        except torch.cuda.OutOfMemoryError as error:
            raise VbenchError(self._too_large(victim)) from error
        perturbation = own_perturbation(f"attack '{self.name}'", perturbation, victim.input_size)
        check_equal(f"what '{self.name}' learnt", perturbation.digest)
        return perturbation.with_provenance(attack=self.name, settings=self.settings(), threat=threat.card())

    def _too_large(self, victim: Victim) -> str:
        # Losses over a whole batch cannot be added up from halves, and another batch is another attack.
        batch = getattr(self, "batch", None)
        advice = f"; give less than batch={batch}, as in '{self.name}[batch={batch // 2}]'" if batch else ""
        return f"attack '{self.name}': out of memory while learning on {victim.name}{advice}"

    @abstractmethod
    def learn(
        self,
        victim: Victim,
        train: TrainingView,
        threat: ThreatModel,
        generator: torch.Generator,
        quiet: bool,
    ) -> Perturbation:
        """The attack itself, on a frozen victim."""

    def edits(self, perturbation: Perturbation, victim: Victim) -> Edits:
        """The feature edits that a perturbation carries; none for pixel-level attacks."""
        return {}

    def controls(
        self, perturbation: Perturbation, victim: Victim, generator: torch.Generator
    ) -> list[Control]:
        """Variants that must be printed beside the attack."""
        return []


#: The knowledge that chooses among members: true identities and galleries. No attacker has it.
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Battery(Attack):
    """A fixed list of attacks; the result is the worst case over them, query by query.

    Every member is run as it would be alone, with the same seed and under the same threat model. Of each
    query the image of one member is kept, and the kept images are ranked once, so that all metrics speak of
    one set of images, one for each query. Kept is the image with the lowest average precision, averaged over
    the trials in which the query has a match and weighted as the mAP weights them; equal values keep the
    member that stands earlier in the list. So the reported mAP is the lowest that any choice of one image a
    query could reach, and never above a member's own; the other metrics follow from the same images.

    AutoAttack calls an input robust when no member breaks it, and every member's answer is final there. The
    answer to a query depends on the gallery as well, and a protocol draws several: choosing in each trial
    anew would need a different image for each gallery, where an attacker submits one. Which one is chosen by
    true identities, so this is an evaluator's worst case and no attacker's knowledge.

    For images of the gallery there is no such choice: each stands in the rankings of all queries.
    """

    universal: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def members(self) -> tuple[Attack, ...]:
        """The attacks, in the order in which ties are given; each changes pixels alone."""

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset({EVALUATION}).union(*(member.knowledge for member in self.members()))

    def applicable(
        self, victim: Victim, threat: ThreatModel
    ) -> tuple[list[Attack], list[tuple[Attack, str]]]:
        """The members that can attack this victim, and the others, each with the reason."""
        fit, left_out = [], []
        for member in self.members():
            try:
                member.check(victim, threat)
                fit.append(member)
            except BadInput as error:
                left_out.append((member, str(error)))
        return fit, left_out

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Refuse a side without a worst case per query, a budget, or a victim that no member can attack."""
        super().check(victim, threat)
        if threat.side is not Side.QUERY:
            raise BadInput(
                f"attack '{self.name}' keeps the worst image of each query, and there is no such choice for "
                "gallery images: each stands in every ranking; use --side query"
            )
        for member in self.members():
            if isinstance(member, Battery) or (isinstance(member, UniversalAttack) and member.tampers):
                raise BadInput(f"attack '{self.name}': '{member.name}' does more than change pixels")
        fit, left_out = self.applicable(victim, threat)
        if not fit:
            reasons = "; ".join(reason for _, reason in left_out)
            raise BadInput(f"attack '{self.name}' has no member for {victim.name}: {reasons}")
