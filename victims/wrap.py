"""``wrap`` makes a victim of any module that gives an embedding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Size, Tensor, nn

from vbench.core.errors import BadInput, VbenchError, shortened, unknown_name
from vbench.core.isolation import own_random_state, seed_all
from vbench.core.plugins import name_problem
from vbench.core.types import Modality
from vbench.victims.base import Edits, Victim, VictimOutput, example_tensor, frozen
from vbench.victims.embed import embed_batch
from vbench.victims.layers import IMAGENET_MEAN, IMAGENET_STD, Normalise
from vbench.victims.load import check_victim
from vbench.victims.registry import VICTIMS

#: Calls a module with N normalised images of one modality; returns the N x D embedding.
Call = Callable[[nn.Module, Tensor, Modality], Tensor]

#: A value for each channel, or one for all.
Channels = tuple[float, float, float] | float


def wrap(
    module: nn.Module,
    *,
    input_size: tuple[int, int],
    mean: Channels = IMAGENET_MEAN,
    std: Channels = IMAGENET_STD,
    similarity: str = "cosine",
    call: Call | None = None,
    stages: Sequence[str] | None = None,
    resize_filter: str = "bilinear",
    name: str | None = None,
) -> Victim:
    """A victim of a module that gives an embedding, for :func:`vbench.evaluate`; the module is not changed.

    ``module`` is in evaluation mode and takes N x 3 x H x W images of ``input_size`` (H, W), after
    ``(images - mean) / std``, from images in [0, 1] whose infrared has three equal channels. The defaults are
    ImageNet's mean and standard deviation. Embeddings are compared by ``similarity``: cosine, euclidean or
    dot.

    ``call(module, images, modality)`` returns the N x D embedding of N normalised images; ``modality`` equals
    "visible" or "infrared". Without it a module with one argument is given the images, and one of the AGW
    line, ``forward(x1, x2, modal)``, the images twice with 1 for visible and 2 for infrared, of whose outputs
    the last is taken, which is the one after batch normalisation. Others need ``call``.

    Attacks on feature maps work at ``stages``, submodules by name ("backbone.layer2"). By default these are
    the ones that run once a pass and give an N x C x h x w map; of neighbours with one shape, the last. The
    images of a data set are resized with ``resize_filter``: bilinear or lanczos. ``name`` is the victim's in
    records; by default that of the module's class.

    What identifies the victim in a record: its weights, its layers, the code of ``module``'s classes and of
    ``call`` (unless of installed packages), and the settings above.

    Raises :class:`BadInput`, in one line, for a module in training mode, one whose output is not a finite
    N x D tensor or differs between two passes, and one through which no gradient reaches the images.
    """
    if not isinstance(module, nn.Module):
        raise BadInput(f"wrap takes a torch.nn.Module, not {shortened(repr(module), 60)}")
    return Wrapped(module, call, name, input_size, mean, std, similarity, stages, resize_filter)


class Wrapped(Victim):
    """A victim made of a module by :func:`wrap`, whose arguments its constructor takes."""

    version: ClassVar[int] = 1
    summary = "a module that gives an embedding"
    paper = ""
    SETTINGS = ()
    _hint = "; call=lambda module, images, modality: ... says how, and returns N x D"

    def __init__(
        self,
        module: nn.Module,
        call: Call | None,
        name: str | None,
        input_size: tuple[int, int],
        mean: Channels,
        std: Channels,
        similarity: str,
        stages: Sequence[str] | None,
        resize_filter: str,
    ) -> None:
        super().__init__()
        own = (*VICTIMS, "all", "none")
        if name is None and name_problem(type(module).__name__, "victim", own):
            name = f"wrapped_{type(module).__name__}"
        # Class attributes of other victims; here they belong to one module.
        self.name = type(module).__name__ if name is None else name  # type: ignore[misc]
        if problem := name_problem(self.name, "victim", own):
            raise BadInput(f"wrap: {problem}")
        if any(one.training for one in module.modules()):
            raise BadInput(f"{self._who}: the module is in training mode; call its eval() first")
        self.called = "call" if call else _convention(module, self._who)
        self.call = call or _CONVENTIONS[self.called]
        self.input_size, self.similarity = input_size, similarity
        self.resize_filter = resize_filter  # type: ignore[misc]
        self.module, self.stages = module, ()
        self.mean, self.std = _channels("mean", mean), _channels("std", std)
        self.normalise = Normalise(self.mean, self.std).to(example_tensor(module))
        #: Where each stage is in the module.
        self.places: dict[str, str] = {}
        check_victim(self)
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.eval()
        self.embedding_dim = self._checked()
        self.places = _stages(self, stages)
        self.stages = tuple(self.places)

    @property
    def _who(self) -> str:
        return f"victim '{self.name}'"

    def describe(self) -> dict[str, object]:
        """What the victim was made with, but for module and call, whose code and weights are hashed."""
        named = ("similarity", "resize_filter", "called")
        listed = {one: list(getattr(self, one)) for one in ("input_size", "mean", "std")}
        settings = {one: getattr(self, one) for one in named}
        return {**listed, **settings, "stages": list(self.places.values())}

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1] of ``input_size``."""
        self.check_images(images)
        edits, features = self.check_edits(edits), dict[str, Tensor]()

        def read(stage: str, module: nn.Module, given: Any, output: Tensor) -> Tensor:
            found = edits[stage](output) if stage in edits else output
            if found.shape != output.shape:
                shapes = f"{tuple(output.shape)} into {tuple(found.shape)}"
                raise BadInput(f"{self.name}: the edit of {stage} changed its shape from {shapes}")
            features[stage] = found
            return found

        with ExitStack() as hooks:
            for stage, place in self.places.items():
                hooked = self.module.get_submodule(place).register_forward_hook(partial(read, stage))
                hooks.callback(hooked.remove)
            embedding = self.call(self.module, self.normalise(images), modality)
        return VictimOutput(embedding, None, features)

    def _checked(self) -> int:
        """The length of the embedding; raises :class:`BadInput` for a module that cannot be attacked."""
        with frozen(self), own_random_state():
            seed_all(0)
            for modality in Modality:
                images = _pictures(self, modality)
                try:
                    found = embed_batch(self, images, modality, range(len(images)), "tried with noise")
                    again, other = (self(images, modality).embedding for _ in range(2))
                except VbenchError as error:
                    raise BadInput(f"{error}{self._hint}") from error
                if not torch.allclose(again, other, rtol=1e-3):
                    raise BadInput(
                        f"{self._who}: two passes of the same images give different embeddings; "
                        "turn off what is random in it"
                    )
                if self.gradients:
                    self._check_gradient(images, modality)
        return found.embeddings.shape[1]

    def _check_gradient(self, images: Tensor, modality: Modality) -> None:
        variable = images.clone().requires_grad_()
        with torch.enable_grad():
            embedding = self(variable, modality).embedding
            gradient = None
            if embedding.requires_grad:
                total = (embedding * torch.rand_like(embedding)).sum()
                (gradient,) = torch.autograd.grad(total, variable, allow_unused=True)
        if gradient is None or not gradient.any():
            raise BadInput(
                f"{self._who}: no gradient reaches the {modality.value} images; "
                "does it detach, round or run under torch.no_grad()?"
            )
        if not gradient.isfinite().all():
            raise BadInput(f"{self._who}: the gradient at the {modality.value} images is not finite")


def _channels(name: str, given: object) -> tuple[float, float, float]:
    values = given if isinstance(given, Sequence) and not isinstance(given, str) else [given] * 3
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) != 3 or len(values) != 3 or (name == "std" and min(numbers) <= 0):
        above = ", each above 0" if name == "std" else ""
        raise BadInput(f"wrap: {name} is a number or three{above}, not {shortened(repr(given), 60)}")
    return numbers[0], numbers[1], numbers[2]


def _pictures(victim: Victim, modality: Modality) -> Tensor:
    """Two images of noise, infrared ones with equal channels."""
    like, generator = example_tensor(victim), torch.Generator().manual_seed(0)
    drawn = torch.rand((2, 3, *victim.input_size), generator=generator)
    drawn = drawn if modality is Modality.VISIBLE else drawn[:, :1].repeat(1, 3, 1, 1)
    return drawn.to(like)


def _image(module: nn.Module, images: Tensor, modality: Modality) -> Tensor:
    return module(images)


def _agw_line(module: nn.Module, images: Tensor, modality: Modality) -> Tensor:
    found = module(images, images, 1 if modality is Modality.VISIBLE else 2)
    return found[-1] if isinstance(found, tuple | list) else found


_CONVENTIONS: dict[str, Call] = {"image": _image, "agw": _agw_line}


def _convention(module: nn.Module, who: str) -> str:
    """How a module is called, by the arguments of its forward pass; BadInput if they do not say."""
    try:
        arguments = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError) as error:  # a scripted module
        raise BadInput(f"{who}: the arguments of its forward are not known{Wrapped._hint}") from error
    given = [one for one in arguments if one.kind is not one.VAR_KEYWORD]
    names = [one.name for one in given]
    if len(names) >= 3 and names[2].startswith("modal"):
        return "agw"
    needed = [one for one in given if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    if len(needed) > 1 or any(name.startswith("modal") for name in names):
        raise BadInput(f"{who}: its forward takes ({', '.join(names)}){Wrapped._hint}")
    return "image"


def _stages(victim: Wrapped, wanted: Sequence[str] | None) -> dict[str, str]:
    """Name of each stage, in forward order, and the submodule that it is.

    A stage has the last part of its submodule's name if that is a word that no other stage has, else all of
    it with "/" for ".", which names of modules cannot have.
    """
    maps, ran = _maps(victim)
    if wanted is not None:
        wanted = [wanted] if isinstance(wanted, str) else wanted
        if not (isinstance(wanted, Sequence) and all(isinstance(place, str) for place in wanted)):
            raise BadInput(f"{victim._who}: stages are names of submodules, not {shortened(repr(wanted))}")
        known = dict(victim.module.named_modules())
        for place in wanted:
            if place not in known:
                raise unknown_name(f"submodule of {victim.name}", place, list(maps))
            if place not in maps:
                raise BadInput(
                    f"{victim._who}: submodule '{place}' does not give one N x C x h x w map in a pass of "
                    "either modality; attacks cannot work there"
                )
        places = [place for place in maps if place in wanted]
    else:
        places = _where_shapes_change(victim.module, maps, ran)
    last = [place.rpartition(".")[2] for place in places]
    short = len(set(last)) == len(last) and not any(name.isdigit() for name in last)
    return {
        name if short else place.replace(".", "/"): place for name, place in zip(last, places, strict=True)
    }


def _maps(victim: Wrapped) -> tuple[dict[str, Size], set[str]]:
    """Shapes of the maps of submodules that run once in a pass of either modality, in the order they end.

    And the names of all submodules that ran.
    """
    shapes: list[dict[str, Size]] = []
    ran: set[str] = set()
    for modality in Modality:
        ended: list[tuple[str, Any]] = []

        def note(name: str, module: nn.Module, given: Any, output: Any) -> None:
            ended.append((name, output.shape if isinstance(output, Tensor) else None))  # noqa: B023

        with ExitStack() as hooks, frozen(victim), torch.no_grad():
            for name, module in victim.module.named_modules():
                if name:
                    hooks.callback(module.register_forward_hook(partial(note, name)).remove)
            victim(pictures := _pictures(victim, modality), modality)
        names = [name for name, _ in ended]
        ran |= set(names)
        shapes.append(
            {
                name: shape
                for name, shape in ended
                if names.count(name) == 1 and shape is not None and len(shape) == 4
                if shape[0] == 2 and shape[2:].numel() > 1 and shape != pictures.shape
            }
        )
    first, second = shapes
    return {name: shape for name, shape in first.items() if second.get(name) == shape}, ran


def _where_shapes_change(module: nn.Module, maps: dict[str, Size], ran: set[str]) -> list[str]:
    """The last submodules of runs of equal shapes, in the outermost containers with two of them."""

    def inside(place: str) -> list[str]:
        found = []
        for name, _ in module.get_submodule(place).named_children():
            child = f"{place}.{name}" if place else name
            # A list of modules, or a network whose parts are called one by one, does not run itself.
            found += [child] if child in maps else inside(child) if child not in ran else []
        return found

    level, order = inside(""), list(maps)
    while True:
        level = sorted(level, key=order.index)
        ends = [
            place
            for place, after in zip(level, [*level[1:], ""], strict=False)
            if maps.get(after) != maps[place]
        ]
        deeper = [child for place in level for child in inside(place)]
        if len(ends) > 1 or not deeper:
            return ends
        level = deeper
