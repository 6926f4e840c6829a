"""Attack, PerImageAttack, UniversalAttack, Battery, Context, Control."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import torch
from torch import Generator, Tensor

from vbench.attacks.perturbation import Perturbation
from vbench.attacks.returned import own_images, own_perturbation
from vbench.attacks.training import TrainingView
from vbench.core.errors import BadInput, VbenchError
from vbench.core.processes import check_equal, memory_errors
from vbench.core.seeds import check_seed
from vbench.core.settings import as_dict, validate
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality, Side
from vbench.victims.base import Edits, Victim, example_tensor, frozen, known_modality
from vbench.victims.precision import converts


@dataclass(frozen=True)
class Gallery:
    """The other side of the ranking, for attacks that declare ``gallery`` knowledge.

    ``embeddings``: G x D, clean, and ``ids``: G identities, of the images that the attacked ones are ranked
    against (the queries if gallery images are attacked). ``query_ids``: identities of the attacked images.
    """

    embeddings: Tensor
    ids: Tensor
    query_ids: Tensor


@dataclass(frozen=True)
class Context:
    """All that the threat model lets a per-image attack know about its N images.

    ``seeds``: N integers, one per image, so that randomness depends on neither batch size nor order.
    ``clean``: N x D clean embeddings; ``predictions``: N classes that the victim's classifier predicts for
    the clean images, None if it has no classifier or none were computed. ``prototypes``: per modality, C x D
    training-set centroids; present when the attack declares ``training`` knowledge. ``gallery``: present when
    it declares ``gallery``.
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

        def draw(row: Tensor, seed: int) -> None:
            torch.rand(row.shape, generator=Generator().manual_seed(seed), dtype=torch.float64, out=row)

        # Drawn one after the other, the noise of a batch would take longer than ten steps on a GPU.
        with ThreadPoolExecutor(torch.get_num_threads()) as pool:
            drawn = [pool.submit(draw, *pair) for pair in zip(draws, self.seeds, strict=True)]
        for one in drawn:
            one.result()
        return draws.mul_(2).sub_(1).to(images) * (self.threat.epsilon * scale)


@dataclass(frozen=True)
class Attack(ABC):
    """Hyper-parameters of one attack. Frozen; its ``repr`` shows all of them."""

    #: Registry name.
    name: ClassVar[str]
    #: For vbench's own attacks, in each class: raised when the attack's results change, so that records of an
    #: older version are not reused. Code of plugins is identified by its source instead.
    version: ClassVar[int]
    #: One line for ``vbench list``.
    summary: ClassVar[str]
    #: Where the attack was published, empty if nowhere.
    paper: ClassVar[str] = ""
    #: True if one perturbation, learnt on training identities, is used for every image.
    universal: ClassVar[bool]
    #: What the victim must offer: "gradients", "logits", "stages", "embeddings" (for black-box attacks).
    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    #: Cost of a per-image attack with default settings, per attacked image: forward and backward passes
    #: through the victim, and forward passes only.
    gradients_per_image: ClassVar[int] = 0
    forwards_per_image: ClassVar[int] = 0
    #: Settings by name, asked for with ``preset=NAME``. vbench's own attacks have "paper" (as published),
    #: "best" (chosen on development identities, see docs/presets.md) and "v1" (what version 1 did, cost
    #: included); the defaults are the stronger of the first two.
    PRESETS: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    #: Settings of cost by name, asked for with ``effort=NAME``: "standard", the default, and "published".
    EFFORTS: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    #: Norms that the attack supports.
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

    def __call__(self, *given: Any, **named: Any) -> Tensor:
        """Adversarial images, see :meth:`PerImageAttack.__call__`; other attacks need a data set."""
        raise self._needs_data("is learnt on training identities" if self.universal else "is several attacks")

    def _needs_data(self, why: str) -> BadInput:
        return BadInput(
            f"attack '{self.name}' {why} and cannot work on a batch alone; use vbench.evaluate"
            + (", then .perturbation.apply(images, modality)" if self.universal else "")
        )

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Raise :class:`BadInput`, before any work, for an unsupported victim or budget."""
        if "gradients" in self.needs and not victim.gradients:
            raise BadInput(
                f"attack '{self.name}' needs gradients and {victim.name} gives none: only black-box attacks "
                "work, such as square and simba, and those crafted on a --surrogate"
            )
        if "logits" in self.needs and not victim.num_classes:
            raise BadInput(f"attack '{self.name}' needs an identity classifier; {victim.name} has none")
        if "stages" in self.needs and not victim.stages:
            raise BadInput(f"attack '{self.name}' needs feature maps; {victim.name} declares no stages")
        if threat.norm not in self.norms:
            known = ", ".join(sorted(self.norms))
            raise BadInput(f"attack '{self.name}' works in {known}, not in {threat.norm}")


class PerImageAttack(Attack):
    """An attack that crafts each image independently; subclasses implement :meth:`craft`."""

    universal = False

    def __call__(
        self,
        victim: Victim,
        images: Tensor,
        modality: Modality | str,
        labels: Tensor | None = None,
        *,
        eps: str | float | None = None,
        norm: str = "linf",
        seed: int = 0,
    ) -> Tensor:
        """Adversarial versions of a batch, for use outside a benchmark run.

        ``images``: N x 3 x H x W in [0, 1] at ``victim.input_size``, "visible" or "infrared" (three equal
        channels). ``labels``: N classes of the victim's classifier that classification attacks move away
        from; by default those it predicts. The result is within the budget ``eps``, see :class:`ThreatModel`,
        and in [0, 1]; it is not rounded to 8 bits, as :func:`vbench.evaluate` does. The same ``seed`` gives
        the same bits.

        Raises :class:`BadInput` for images of another shape, range, dtype or device than the victim's, for
        labels that are no classes of it (int64), and for an attack that knows training images or the
        gallery: those need a data set.

        >>> adversarial = build_attack("pgd")(victim, images, "visible", eps="4/255")  # doctest: +SKIP
        """
        who = f"attack '{self.name}'"
        if not isinstance(victim, Victim):
            made = "as vbench.load_victim('agw') or vbench.wrap(model, ...) makes one"
            raise BadInput(
                f"{who}: the victim must be a Victim object, {made}, not a {type(victim).__name__}"
            )
        if not isinstance(images, Tensor) or not len(images):
            raise BadInput(f"{who}: images must be a tensor of at least one")
        victim.check_images(images)
        if self.knowledge:
            raise self._needs_data(f"knows the {' and the '.join(sorted(self.knowledge))}")
        if not (images.is_floating_point() and images.min() >= 0 and images.max() <= 1):
            raise BadInput(f"{who}: images must be floating-point numbers in [0, 1]")
        own = example_tensor(victim)
        # One whose precision was chosen takes images of any dtype.
        if images.device != own.device or (images.dtype != own.dtype and not converts(victim)):
            raise BadInput(
                f"{who}: images are {images.dtype} on {images.device}, {victim.name} is {own.dtype} on "
                f"{own.device}; use images.to('{own.device}', {own.dtype})"
            )
        if labels is not None and (not isinstance(labels, Tensor) or labels.shape != images.shape[:1]):
            raise BadInput(f"{who}: labels must be a tensor with one class for each image")
        if labels is not None and (
            labels.dtype != torch.int64
            or labels.min() < 0
            or labels.max() >= (victim.num_classes or torch.inf)
        ):
            classes = f"below {victim.num_classes}" if victim.num_classes else "not below 0"
            raise BadInput(f"{who}: labels must be classes of {victim.name}, of dtype torch.int64, {classes}")
        seed, modality = check_seed(seed), known_modality(modality, who)
        threat = ThreatModel(eps, norm, quantize=False)
        with frozen(victim), torch.no_grad():
            output = victim(images, modality)
        if labels is None and output.logits is not None:
            labels = output.logits.argmax(1)
        seeds = tuple(range(seed, seed + len(images)))
        context = Context(threat, seeds, output.embedding, predictions=labels)
        return threat.enforce(images, self.perturb(victim, images, modality, context))

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


#: Feature edits of an attack: the same for both modalities, or by modality.
AnyEdits = Edits | Mapping[Modality, Edits]


def edits_of(edits: AnyEdits, modality: Modality) -> Edits:
    """The edits that belong to images of one modality."""
    own: object = dict(edits).get(modality)
    return cast("Edits", own if isinstance(own, Mapping) else edits)


@dataclass(frozen=True)
class Control:
    """A variant of a universal attack that is shown below it, to separate the effects of its parts.

    ``side`` "attacked" changes the attacked side, as the attack does; "other" changes the other side and
    leaves the attacked one clean.
    """

    name: str
    perturbation: Perturbation
    tampers: bool
    side: str = "attacked"


class UniversalAttack(Attack):
    """An attack learnt once on training identities, then applied; subclasses implement :meth:`learn`."""

    universal = True

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset({"training"})

    @property
    def tampers(self) -> bool:
        """Whether the attack changes more than pixels: features inside the victim, or its weights."""
        return False

    def fit(
        self,
        victim: Victim,
        train: TrainingView,
        threat: ThreatModel,
        generator: Generator,
        quiet: bool = False,
    ) -> Perturbation:
        """Learn one perturbation on training identities; the same generator state gives the same bits.

        The victim is restored exactly, also after an exception. Raises :class:`VbenchError` if the result is
        not a finite perturbation, cannot be stored, or differs between the processes of the run, if the
        attack finds that its own loss terms have no effect, or if the device runs out of memory.
        """
        self.check(victim, threat)
        try:
            with memory_errors(), frozen(victim), torch.enable_grad():
                perturbation = self.learn(victim, train, threat, generator, quiet)
        except torch.cuda.OutOfMemoryError as error:
            raise VbenchError(self._out_of_memory(victim)) from error
        perturbation = own_perturbation(f"attack '{self.name}'", perturbation, victim.input_size)
        check_equal(f"what '{self.name}' learnt", perturbation.digest)
        return perturbation.with_provenance(attack=self.name, settings=self.settings(), threat=threat.card())

    def _out_of_memory(self, victim: Victim) -> str:
        # A loss over a batch is not the sum over its halves: halving the batch would change the attack.
        batch = getattr(self, "batch", None)
        advice = f"; give less than batch={batch}, as in '{self.name}[batch={batch // 2}]'" if batch else ""
        return f"attack '{self.name}': out of memory while learning on {victim.name}{advice}"

    @abstractmethod
    def learn(
        self, victim: Victim, train: TrainingView, threat: ThreatModel, generator: Generator, quiet: bool
    ) -> Perturbation:
        """The attack itself, on a frozen victim."""

    def edits(self, perturbation: Perturbation, victim: Victim) -> AnyEdits:
        """The feature edits that belong to a perturbation; none for pixel-level attacks."""
        return {}

    def fit_cost(self, victim: Victim, images: Sequence[int], identities: int) -> int:
        """Gradient evaluations of a fit; ``images``: the training images of each modality."""
        return int(getattr(self, "evaluations", 0))

    @property
    def retrains(self) -> bool:
        """Whether the attacker trains the victim itself: then every image passes :meth:`tampered`."""
        return False

    def tampered(self, perturbation: Perturbation, victim: Victim) -> Victim:
        """The model that an attacker who trains it hands over, in the victim's place."""
        return victim

    def variants(self) -> Mapping[str, UniversalAttack]:
        """The same attack with a part left out, by name; fitted as well, and shown below it as controls."""
        return {}

    def controls(self, perturbation: Perturbation, victim: Victim, generator: Generator) -> list[Control]:
        """Variants that must be printed below the attack."""
        return []


#: The variant of an attack that trains the victim against which its effect is judged.
REFERENCE = "without AQAL and perturbation"

#: The knowledge used to choose among members (true identities and galleries). No attacker has it.
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Battery(Attack):
    """A fixed list of attacks; the result is the worst case over them, query by query.

    Every member is run as it would be alone, with the same seed and under the same threat model. For each
    query the image of one member is kept, and the kept images are ranked once, so that all metrics are
    computed on one set of images. The kept image has the lowest average precision, averaged over the trials
    in which the query has a match and weighted as in the mAP; ties keep the earlier member. So the reported
    mAP is the lowest that any choice of one image per query could reach, and never above a member's own; the
    other metrics follow from the same images.

    In AutoAttack an input is robust if no member breaks it. Here the result of a query also depends on the
    gallery, and a protocol has several: choosing per trial would need a different image for each gallery,
    while an attacker submits one. The choice uses true identities, so this is the evaluator's worst case, not
    an attack anybody could run.

    Gallery images have no such choice: each is in the rankings of all queries.
    """

    universal: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def attacks(self) -> tuple[Attack, ...]:
        """The attacks, in the order that breaks ties; each changes only pixels."""

    @property
    def knowledge(self) -> frozenset[str]:
        return frozenset({EVALUATION}).union(*(member.knowledge for member in self.attacks()))

    def applicable(
        self, victim: Victim, threat: ThreatModel
    ) -> tuple[list[Attack], list[tuple[Attack, str]]]:
        """The members that can attack this victim, and the others with a reason each."""
        fit, left_out = [], []
        for member in self.attacks():
            try:
                member.check(victim, threat)
                fit.append(member)
            except BadInput as error:
                left_out.append((member, str(error)))
        return fit, left_out

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        """Raise :class:`BadInput` for a side but the query's, or a budget or victim without a member."""
        super().check(victim, threat)
        if threat.side is not Side.QUERY:
            raise BadInput(
                f"attack '{self.name}' keeps the worst image of each query, and there is no such choice for "
                "gallery images: each is in every ranking; use --side query"
            )
        for member in self.attacks():
            if isinstance(member, Battery) or (isinstance(member, UniversalAttack) and member.tampers):
                raise BadInput(f"attack '{self.name}': '{member.name}' does more than change pixels")
        fit, left_out = self.applicable(victim, threat)
        if not fit:
            reasons = "; ".join(reason for _, reason in left_out)
            raise BadInput(f"attack '{self.name}' has no member for {victim.name}: {reasons}")
