"""Adapters for attacks of other libraries: fields from their constructors, randomness from our seeds.

The libraries attack classifiers, so the label is the victim's own prediction on the clean image. They use
global random state; here every image is attacked alone with its own seed and the global state is restored,
unless the attack is deterministic and treats images independently: then the batch stays whole.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from vbench.attacks.base import Context, PerImageAttack
from vbench.attacks.classification import Classifier, predictions
from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.isolation import own_random_state, seed_all
from vbench.core.plugins import made_by_vbench
from vbench.core.settings import constructor, param
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.victims.base import Victim, example_tensor

_ANY_ORDER = Field(union_mode="left_to_right")
_NUMBER = Annotated[int | float, _ANY_ORDER]
_ANYTHING = Annotated[int | float | str | None, _ANY_ORDER]
_TYPES: dict[type, Any] = {bool: bool, int: _NUMBER, float: float, str: str}

#: Exceptions of a library that mean unsuitable settings or image shapes.
_UNSUITABLE = (ValueError, TypeError, AssertionError, IndexError, NotImplementedError)


@dataclasses.dataclass(frozen=True)
class Rule:
    """What must be known about a library's attack to run it.

    ``norms``: those it supports; attacks that search the smallest change and have no eps are projected to the
    budget afterwards. ``whole``: settings under which no image depends on randomness or on its batch, None if
    there are none. ``gradients``: whether it uses them. ``square``: norms in which it needs square images.
    ``defaults``: replacements for defaults of the library that fail on upright images. ``package``: one that
    it imports and that its library does not install.
    """

    norms: tuple[str, ...] = ("linf",)
    whole: Mapping[str, object] | None = None
    gradients: bool = True
    square: tuple[str, ...] = ()
    defaults: Mapping[str, object] = dataclasses.field(default_factory=dict)
    package: str = ""


class SingleClassifier(Classifier):
    """A victim of any precision as a model with float32 input and output, which the libraries expect."""

    def forward(self, images: Tensor) -> Tensor:
        parameter = example_tensor(self.victim)
        return super().forward(images.to(parameter.dtype)).float()


class LibraryAttack(PerImageAttack):
    """One attack of a library; :func:`adapt` makes a subclass with the fields of its constructor."""

    #: Name of the Python distribution that contains the attack.
    library: ClassVar[str]
    engine: ClassVar[type]
    rule: ClassVar[Rule]
    #: Step settings that default to a share of eps: name -> share.
    shares: ClassVar[Mapping[str, float]]
    #: The library's name for eps in this attack, empty if it has none.
    budget: ClassVar[str]

    def check(self, victim: Victim, threat: ThreatModel) -> None:
        super().check(victim, threat)
        if self.rule.package and find_spec(self.rule.package) is None:
            raise BadInput(f"attack '{self.name}' needs the package '{self.rule.package}'; install it")
        height, width = victim.input_size
        if threat.norm in self.rule.square and height != width:
            raise BadInput(
                f"attack '{self.name}' supposes square images in {threat.norm}; "
                f"{victim.name} takes {height}x{width}"
            )

    def arguments(self, threat: ThreatModel) -> dict[str, Any]:
        """The constructor's arguments: the settings, with steps and eps from the threat model."""
        found = dict(self.settings())
        for name, share in self.shares.items():
            if found[name] is None:
                found[name] = share * threat.epsilon
        if self.budget:
            found[self.budget] = threat.epsilon
        return found

    def craft(self, victim: Victim, images: Tensor, modality: Modality, context: Context) -> Tensor:
        classifier, single = SingleClassifier(victim, modality).eval(), images.float()
        labels = predictions(classifier, single, context)
        whole = self.rule.whole
        together = whole is not None and all(getattr(self, name) == value for name, value in whole.items())
        size = len(images) if together else 1
        crafted = []
        # Some libraries use the current GPU, not that of the images.
        with own_random_state(), torch.cuda.device_of(images):
            for row in range(0, len(images), size):
                seed = context.seeds[row]
                seed_all(seed)
                rows = slice(row, row + size)
                with self._explained():
                    crafted.append(self.run(classifier, single[rows], labels[rows], context.threat, seed))
        return torch.cat(crafted).to(images)

    @abstractmethod
    def run(
        self, classifier: Classifier, images: Tensor, labels: Tensor, threat: ThreatModel, seed: int
    ) -> Tensor:
        """Adversarial images (float32, like ``images``) from the library."""

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except VbenchError:
            raise
        except _UNSUITABLE as error:
            reason = (str(error) or type(error).__name__).strip().split("\n")[0]
            raise BadInput(
                f"attack '{self.name}' cannot work with these settings or images: {reason}"
            ) from error


def adapt(
    base: type[LibraryAttack],
    library: str,
    name: str,
    engine: type,
    rules: Mapping[str, Rule | str],
    fixed: frozenset[str],
) -> type[LibraryAttack]:
    """The attack ``library:name`` as a dataclass whose fields are the constructor's arguments.

    ``rules`` holds a :class:`Rule` for each attack that can run here and a reason for each that cannot;
    ``fixed`` are arguments set by the threat model, the victim or the runner. Raises :class:`BadInput` with
    that reason.
    """
    rule = rules[name]
    if isinstance(rule, str):
        raise BadInput(f"{library}:{name} cannot attack here: {rule}")
    signature = inspect.signature(constructor(engine)).parameters
    budget = next((known for known in ("eps", "max_epsilon") if known in signature), "")
    text = f"{inspect.getdoc(engine) or ''}\n{inspect.getdoc(constructor(engine)) or ''}"
    shares, fields = {}, []
    for argument in list(signature.values())[1:]:
        if argument.name in fixed or argument.name == budget or argument.kind is argument.VAR_KEYWORD:
            continue
        default = rule.defaults.get(argument.name, argument.default)
        meaning, kind = _meaning(text, argument.name), _TYPES.get(type(default), _ANYTHING)
        if argument.name in ("alpha", "eps_step") and budget:
            shares[argument.name] = default / signature[budget].default
            meaning = f"{meaning}; none means {shares[argument.name]:.3g} eps, as in the library"
            default, kind = None, Annotated[float, Field(gt=0)] | None
        fields.append((argument.name, kind, param(default, meaning)))
    paper = _paper(text)
    needs = {"logits", "gradients"} if rule.gradients else {"logits"}
    namespace = {
        "name": f"{library}:{name}",
        "version": base.version,
        "summary": f"{name} of {library} on the identity classifier",
        "paper": paper,
        "needs": frozenset(needs),
        "norms": frozenset(rule.norms),
        "engine": engine,
        "rule": rule,
        "shares": shares,
        "budget": budget,
        "__doc__": f"{name} of {library}, away from the victim's own prediction; eps is the threat model's.",
        "__module__": base.__module__,
    }
    made = dataclasses.make_dataclass(name, fields, bases=(base,), namespace=namespace, frozen=True)
    made_by_vbench.add(made)
    return made


def known(library: str, name: str, rules: Mapping[str, Rule | str], offered: Mapping[str, type]) -> type:
    """The library's class of that name; :class:`BadInput` if it does not exist or has no rule here."""
    if name not in offered:
        raise unknown_name(f"attack of {library}", name, [n for n in rules if n in offered])
    if name not in rules:
        raise BadInput(f"{library}:{name} is newer than this adapter, which has no rule for it")
    return offered[name]


def _meaning(text: str, name: str) -> str:
    """The library's documentation of an argument: ``:param name: ...`` or ``name (type): ...``."""
    found = re.search(rf":param {name}:\s*(.+?)(?=\n\s*:|\Z)", text, re.S)
    found = found or re.search(rf"^\s*{name} \([^)]*\)\s*:\s*(.+)$", text, re.M)
    line = " ".join(found[1].split()) if found else ""
    return re.sub(r"\s*\(Default.*", "", line.split(". ")[0]).rstrip(".")


def _paper(text: str) -> str:
    title, link = re.search(r"'([^'\n]{12,})'", text), re.search(r"https?://[^\s\]\)]+", text)
    return " ".join(found for found in (title and title[1], link and link[0]) if found)
