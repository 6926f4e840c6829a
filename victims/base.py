"""The base class of victims, its output and its constructor options; ``frozen``."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from torch import Tensor, nn

from vbench.core.errors import BadInput, shortened, unknown_name
from vbench.core.settings import constructor
from vbench.core.types import Modality
from vbench.victims.released import ReleasedLayout

#: The generator of the initial weights is not an option of a victim.
_NOT_OPTIONS = ("self", "generator")


def option_names(victim_class: type) -> list[str]:
    """Names of the constructor's options, in order."""
    parameters = inspect.signature(constructor(victim_class)).parameters.values()
    named = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    return [name for name in named if name not in _NOT_OPTIONS]


def default_options(victim_class: type) -> dict[str, object]:
    """Default of every option that has one."""
    parameters = inspect.signature(constructor(victim_class)).parameters
    defaults = {name: parameters[name].default for name in option_names(victim_class)}
    return {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}


def accepts_generator(victim_class: type) -> bool:
    """Whether the constructor takes a generator for its initial weights."""
    return "generator" in inspect.signature(constructor(victim_class)).parameters


def missing_options(victim_class: type, given: dict[str, Any]) -> list[str]:
    """Options without a default that are not given."""
    defaults = default_options(victim_class)
    return [name for name in option_names(victim_class) if name not in defaults and name not in given]


def read_option(victim_class: type, name: str, value: Any, where: str) -> Any:
    """The value of an option as its annotated type or the type of its default; unchanged without either.

    Raises BadInput that begins with ``where`` for a value of another type.
    """
    try:
        return _adapter(victim_class, name).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"]
        raise BadInput(f"{where}: {name}={shortened(repr(value), 60)}: {reason}") from error


def with_classes(victim_class: type, options: dict[str, Any], classes: int) -> dict[str, Any]:
    """The options of a victim that is trained on ``classes`` identities; BadInput for another number."""
    if options.get("num_classes", classes) != classes:
        raise BadInput(
            f"num_classes={options['num_classes']}: trained on {classes} identities; leave num_classes out"
        )
    takes = "num_classes" in option_names(victim_class)
    return {**options, "num_classes": classes} if takes else options


def _adapter(victim_class: type, name: str) -> TypeAdapter[Any]:
    default = default_options(victim_class).get(name)
    plain = type(default) if isinstance(default, bool | int | float | str) else Any
    plain = int if name == "num_classes" else plain
    try:
        declared = inspect.signature(constructor(victim_class), eval_str=True).parameters[name].annotation
        return TypeAdapter(plain if declared is inspect.Parameter.empty else declared)
    except (NameError, TypeError, AttributeError, PydanticUserError):
        # Annotations of a plugin may use names that are imported under TYPE_CHECKING only.
        return TypeAdapter(plain)


#: Stage name -> function that replaces the feature map there. The map is N x C x h x w and must keep its
#: shape, unless the victim allows several maps per image (:attr:`Victim.forks`). An edit must treat images
#: independently: if several processes share a batch, it gets only a part of the images.
Edits = Mapping[str, Callable[[Tensor], Tensor]]


@dataclass
class VictimOutput:
    """One forward pass.

    ``embedding``: N x D, exactly what the model's own test script ranks by. ``logits``: N x C of the identity
    classifier, or None if the model has none.
    ``features``: stage name -> N x C x h x w feature map, after any edit of that stage. A model that sends
    several versions of an image through a stage stacks their maps along the channels.
    ``parts``: every vector that the model's own test script ranks by, by name, each N x D'. If several
    processes share a batch, reading a map or a part gathers it, so all of them must read it.
    """

    embedding: Tensor
    logits: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Mapping[str, Tensor] = field(default_factory=dict)


class Victim(nn.Module):
    """A VIReID model under test.

    Images are ``N x 3 x H x W`` float RGB in [0, 1] at ``input_size``; infrared has three equal channels.
    Normalisation happens inside. A victim never writes to its input.
    """

    #: Registry name.
    name: ClassVar[str]
    #: For vbench's own victims, in each class: raised when the same weights give other outputs.
    version: ClassVar[int]
    #: One line for ``vbench list``.
    summary: ClassVar[str]
    #: Where the model was published.
    paper: ClassVar[str]
    #: How the dataset resizes images for this model: "lanczos" or "bilinear" (Pillow's filters).
    resize_filter: ClassVar[str] = "lanczos"
    #: How embeddings are compared, one of :data:`vbench.core.types.SIMILARITIES`.
    similarity: str = "cosine"
    #: Stages that can be read and edited, in forward order; block0 ... block4 of the paper.
    stages: tuple[str, ...] = ("stem", "layer1", "layer2", "layer3", "layer4")
    #: True if an edit may return k feature maps per image. They are stacked along the batch: map j of image i
    #: is row j * N + i. The rest of the pass and every output then have k * N rows.
    forks: bool = False
    #: Whether gradients reach the images; without them only black-box attacks work.
    gradients: bool = True
    #: Whether building it runs code of a file, which the user must allow.
    runs_code: ClassVar[bool] = False
    #: Lines for the warnings of its records.
    remarks: Sequence[str] = ()
    #: Constructor options that choose what is ranked and do not affect the weights.
    SETTINGS: ClassVar[tuple[str, ...]] = ("embedding", "flip")
    #: The torchvision architecture whose ImageNet weights fit the backbone, or None.
    imagenet: ClassVar[str | None] = None
    #: The layout of the authors' released checkpoint, or None.
    released: ClassVar[ReleasedLayout | None] = None

    #: (H, W) in pixels.
    input_size: tuple[int, int]
    #: Length D of the embedding.
    embedding_dim: int
    #: Number C of training identities, 0 without a classifier.
    num_classes: int = 0

    def __init__(self) -> None:
        super().__init__()
        #: Metadata of the weights file; {} without one.
        self.weights_metadata: dict[str, Any] = {}

    def __call__(self, images: Tensor, modality: Modality | str, *more: Any, **named: Any) -> VictimOutput:
        """Embed a batch: :meth:`forward`, with hooks. A modality may be text: "visible" or "infrared"."""
        if type(modality) is not Modality:
            modality = known_modality(modality, self.name)
        return super().__call__(images, modality, *more, **named)

    @classmethod
    def released_options(cls, state: Mapping[str, Tensor]) -> dict[str, Any]:
        """Constructor options that a released state dict implies, such as the variant of the network."""
        return {}

    def start_from(self, state: Mapping[str, Tensor], where: str) -> None:
        """Fill the backbone from the state dict of :attr:`imagenet`; ``where`` names it in errors."""
        raise BadInput(f"victim '{self.name}' cannot be started from ImageNet weights")

    @abstractmethod
    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed a batch of one modality, applying ``edits`` to the named stages."""

    def describe(self) -> dict[str, object]:
        """Options this instance was built with: JSON-able, enough to build it again.

        Every constructor option must be an attribute of the same name; raises :class:`BadInput` otherwise.
        """
        found: dict[str, object] = {}
        for name in option_names(type(self)):
            if not hasattr(self, name):
                raise BadInput(f"{self.name}: keep option '{name}' as an attribute, or override describe()")
            value = getattr(self, name)
            found[name] = list(value) if isinstance(value, tuple) else value
        return found

    def check_images(self, images: Tensor) -> None:
        """Raise :class:`BadInput` for a batch whose shape does not fit."""
        if images.ndim != 4 or images.shape[1] != 3 or tuple(images.shape[2:]) != tuple(self.input_size):
            wanted = f"N x 3 x {self.input_size[0]} x {self.input_size[1]}"
            raise BadInput(f"{self.name}: images must be {wanted}, got {tuple(images.shape)}")

    def check_edits(self, edits: Edits | None) -> Edits:
        """Return the edits; raise :class:`BadInput` for a stage that this victim does not have."""
        for stage in edits or {}:
            if stage not in self.stages:
                raise unknown_name(f"stage of {self.name}", stage, self.stages)
        return edits or {}


def example_tensor(victim: nn.Module) -> Tensor:
    """A tensor with a victim's device and dtype: a parameter or buffer, else an empty CPU tensor."""
    tensors = chain(victim.parameters(), victim.buffers())
    nothing = torch.empty(0, dtype=torch.float32, device="cpu")
    return next((tensor for tensor in tensors if tensor.is_floating_point()), nothing)


def known_modality(given: object, owner: str) -> Modality:
    # "visible" == Modality.VISIBLE, but a victim that compares with "is" needs the enum member.
    try:
        return Modality(given)
    except ValueError as error:
        known = " or ".join(repr(one.value) for one in Modality)
        raise BadInput(f"{owner}: a modality is {known}, not {shortened(repr(given), 60)}") from error


@contextmanager
def frozen(victim: nn.Module) -> Iterator[None]:
    """Put a victim into evaluation mode with frozen parameters, and restore it exactly afterwards.

    Every module's training flag, every parameter's ``requires_grad`` and every buffer are restored, also
    after an exception; no gradient is left on a parameter that had none. Inside another ``frozen`` of the
    same victim, buffers get the values that they had when that one began, which saves a copy of them.
    """
    modules = [(module, module.training) for module in victim.modules()]
    parameters = [(parameter, parameter.requires_grad) for parameter in victim.parameters()]
    buffers, outer = list(victim.buffers()), _FROZEN.get(victim)
    if outer is not None and [id(buffer) for buffer, _ in outer] == [id(buffer) for buffer in buffers]:
        saved = outer
    else:
        saved = [(buffer, buffer.detach().clone()) for buffer in buffers]
    _FROZEN[victim] = saved
    try:
        victim.eval()
        for parameter, _ in parameters:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, training in modules:
            module.training = training
        for parameter, wanted in parameters:
            parameter.requires_grad_(wanted)
        _restore(saved)
        if outer is None:
            del _FROZEN[victim]
        else:
            _FROZEN[victim] = outer


#: The buffers of each victim that is frozen now, with the values to restore.
_FROZEN: WeakKeyDictionary[nn.Module, list[tuple[Tensor, Tensor]]] = WeakKeyDictionary()


@torch.no_grad()
def _restore(saved: Sequence[tuple[Tensor, Tensor]]) -> None:
    # On a GPU without comparing, which would wait for it once a buffer, and few kernels for all of them.
    there = [(buffer.data, before) for buffer, before in saved if buffer.is_cuda]
    if there:
        torch._foreach_copy_([buffer for buffer, _ in there], [before for _, before in there])
    for buffer, before in saved:
        if not buffer.is_cuda and not torch.equal(buffer, before):
            buffer.copy_(before)
