"""A learnt perturbation, in memory and as a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from vbench.core.errors import BadInput, shortened
from vbench.core.files import write_atomically
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.data.pixels import RESIZE_POLICY, resize


class PerturbationGenerator(nn.Module):
    """Residual encoder-decoder: N x 3 x H x W images in [0, 1] to changes in [-bound, bound], same shape.

    Two stride-2 convolutions, ``blocks`` residual blocks at a quarter of the size, two transposed
    convolutions, tanh. Instance normalisation, so that an image's change never depends on its batch; H and
    W must be at least 8.
    """

    bound: Tensor

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.start = nn.Sequential(_Mirrored(3), *_normed(nn.Conv2d(3, width, 7, bias=False), width))
        self.down = nn.Sequential(
            *_normed(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False), 2 * width),
            *_normed(nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1, bias=False), 4 * width),
        )
        self.residual = nn.ModuleList(_residual(4 * width) for _ in range(blocks))
        self.up = nn.Sequential(
            *_normed(_double(4 * width, 2 * width), 2 * width), *_normed(_double(2 * width, width), width)
        )
        self.end = nn.Sequential(_Mirrored(3), nn.Conv2d(width, 3, 7), nn.Tanh())
        self.register_buffer("bound", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        """Changes for N images."""
        height, width = images.shape[2:]
        current = self.down(self.start(2 * images - 1))
        for block in self.residual:
            current = current + block(current)
        return self.bound * self.end(self.up(current)[:, :, :height, :width])


def new_generator(width: int, blocks: int, bound: float, generator: torch.Generator) -> PerturbationGenerator:
    """A generator with random weights from ``generator`` alone."""
    # Built on the meta device: torch's own initialisation would use global random state.
    with torch.device("meta"):
        network = PerturbationGenerator(width, blocks)
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            fan_in = parameter[0].numel()
            parameter.copy_(draw / fan_in**0.5 if parameter.ndim > 1 else torch.zeros_like(draw))
        network.bound.fill_(bound)
    return network


def generator_from(weights: Mapping[str, Tensor]) -> PerturbationGenerator:
    """The frozen generator with the state dict ``weights``; :class:`BadInput` if they fit none."""
    first = weights.get("start.1.weight")
    blocks = {name.split(".")[1] for name in weights if name.startswith("residual.")}
    if first is None or first.ndim != 4:
        raise BadInput("the perturbation's generator has no first layer")
    with torch.device("meta"):
        network = PerturbationGenerator(first.shape[0], len(blocks))
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    if expected != {name: tuple(value.shape) for name, value in weights.items()}:
        raise BadInput("the perturbation's generator has tensors of other names or shapes than expected")
    network.load_state_dict(dict(weights), assign=True)
    return network.requires_grad_(False).eval()


def _normed(layer: nn.Module, channels: int) -> tuple[nn.Module, ...]:
    return layer, nn.InstanceNorm2d(channels), nn.ReLU()


def _double(channels: int, out: int) -> nn.Module:
    return nn.ConvTranspose2d(channels, out, 3, stride=2, padding=1, output_padding=1, bias=False)


class _Mirrored(nn.ReflectionPad2d):
    """The same values, whose gradient a GPU, too, adds up in one order."""

    def forward(self, images: Tensor) -> Tensor:
        if not images.is_cuda:
            return super().forward(images)
        rows, columns = (mirrored_index(size, self.padding[0], images.device) for size in images.shape[2:])
        return images[:, :, rows[:, None], columns]


def mirrored_index(size: int, padding: int, device: torch.device) -> Tensor:
    """Which of ``size`` rows each row of the map with a mirrored border of ``padding`` rows shows."""
    index = torch.arange(-padding, size + padding, device=device).abs()
    return torch.minimum(index, 2 * (size - 1) - index)


def _residual(channels: int) -> nn.Sequential:
    return nn.Sequential(
        _Mirrored(1),
        *_normed(nn.Conv2d(channels, channels, 3, bias=False), channels),
        _Mirrored(1),
        nn.Conv2d(channels, channels, 3, bias=False),
        nn.InstanceNorm2d(channels),
    )


_FORMAT = "vbench-perturbation/2"

#: Files of this version have no digest of their header.
_FORMER = "vbench-perturbation/1"

#: Files with a perturbation for each modality: readers of the others would add the visible one to all images.
_SPLIT = "vbench-perturbation/3"

_DEEPEST = 50

#: Prefix of the names of a generator's tensors in ``modules``.
GENERATOR = "generator."

#: Prefix of the names of a trained victim's tensors in ``modules``.
WEIGHTS = "weights."


@dataclass(frozen=True)
class Perturbation:
    """One perturbation for all images, or one for each modality.

    ``delta``: 3 x H x W in [-eps, eps], added to images in [0, 1]; only to visible ones if ``infrared``, of
    the same shape, is there for the others. ``modules``: tensors of the attacker's
    feature modules by name, empty for a pixel-level attack; the attack that made them can turn them into
    edits. Those named ``generator.*`` are the weights of a network; its output for an image is added to the
    image together with ``delta``, so the network is shared instead of one change.
    Those named ``weights.*`` are the weights of a victim that the attacker has trained.
    ``provenance``: JSON-able (attack and its parameters, victim, data, protocol, eps, seed).
    ``fit_log``: JSON-able numbers about the fit (gradient evaluations, share of active triples, ...).
    """

    delta: Tensor
    modules: Mapping[str, Tensor] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    fit_log: Mapping[str, Any] = field(default_factory=dict)
    infrared: Tensor | None = None

    @property
    def deltas(self) -> dict[str, Tensor]:
        """``delta``, and ``infrared`` if it is there."""
        return {"delta": self.delta} | ({} if self.infrared is None else {"infrared": self.infrared})

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights of a victim that the attacker has trained; empty if it is untouched."""
        return {
            name.removeprefix(WEIGHTS): tensor
            for name, tensor in self.modules.items()
            if name.startswith(WEIGHTS)
        }

    def delta_of(self, modality: Modality | None) -> Tensor:
        """What is added to the images of one modality; BadInput without one, if each has its own."""
        if self.infrared is None:
            return self.delta
        if modality is None:
            raise BadInput("there is a perturbation for each modality: say whether the images are visible")
        return self.infrared if modality is Modality.INFRARED else self.delta

    def apply(self, images: Tensor, modality: Modality | None = None) -> Tensor:
        """Add the perturbation, a generator's included, to N x 3 x H x W images and clip to [0, 1]."""
        if images.shape[1:] != self.delta.shape:
            own, wanted = tuple(self.delta.shape[1:]), tuple(images.shape[2:])
            raise BadInput(f"the perturbation is for images of {own}, not {wanted}")
        change = self.delta_of(modality).to(images)
        weights = {
            name.removeprefix(GENERATOR): tensor.to(images)
            for name, tensor in self.modules.items()
            if name.startswith(GENERATOR)
        }
        if weights:
            with torch.no_grad():
                change = change + generator_from(weights)(images)
        return (images + change).clamp(0.0, 1.0)

    def resized(self, size: tuple[int, int], threat: ThreatModel) -> Perturbation:
        """The perturbation for images of size (H, W): resized bilinearly, then projected to the budget.

        Returns the same object if the size is equal. A generator is not changed and runs at the new size.
        Raises BadInput for feature modules, which fit only the victim they were learnt on.
        """
        own = tuple(self.delta.shape[1:])
        if own == tuple(size):
            return self
        if any(not name.startswith(GENERATOR) for name in self.modules):
            raise BadInput(f"a perturbation with feature modules for images of {own} cannot be resized")
        deltas = {}
        for name, delta in self.deltas.items():
            delta = resize(delta[None], size)
            nothing = torch.full_like(delta, 0.5)
            deltas[name] = (threat.project(nothing, nothing + delta) - nothing)[0]
        how = f"from {own[0]}x{own[1]} to {size[0]}x{size[1]}, {RESIZE_POLICY}"
        how += ", the generator unchanged" if self.modules else ""
        return self._with(deltas).with_provenance(resized=how, resized_from=self.digest)

    def still(self) -> Perturbation:
        """The same without a change of the pixels: the modules alone."""
        return self._with({name: torch.zeros_like(delta) for name, delta in self.deltas.items()})

    def _with(self, deltas: Mapping[str, Tensor]) -> Perturbation:
        return replace(self, delta=deltas["delta"], infrared=deltas.get("infrared"))

    def with_provenance(self, **facts: Any) -> Perturbation:
        """The same perturbation with more facts about where it came from."""
        return replace(self, provenance={**self.provenance, **facts})

    @property
    def digest(self) -> str:
        """SHA-256 over the pixels and the modules."""
        sha = hashlib.sha256()
        for name, tensor in sorted({**self.deltas, **self.modules}.items()):
            sha.update(f"{name}{tuple(tensor.shape)}".encode())
            sha.update(tensor.detach().to("cpu", torch.float32).contiguous().numpy().tobytes())
        return sha.hexdigest()

    def save(self, path: Path) -> None:
        """Write a ``.safetensors`` file with the provenance, and digests of it and of the tensors."""
        tensors = {**self.deltas, **{f"modules.{name}": value for name, value in self.modules.items()}}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        header = {
            "format": _FORMAT if self.infrared is None else _SPLIT,
            "digest": self.digest,
            "provenance": json.dumps(dict(self.provenance)),
            "fit_log": json.dumps(dict(self.fit_log)),
        }
        write_atomically(path, save(tensors, {**header, "seal": _seal(header)}))

    @classmethod
    def load(cls, path: Path) -> Perturbation:
        """Read a file written by :meth:`save`; raises BadInput when it is not one or was altered."""
        header, tensors = _contents(path)
        if header.get("format") not in (_FORMAT, _FORMER, _SPLIT) or "delta" not in tensors:
            raise BadInput(f"{path} is a safetensors file, but not a vbench perturbation")
        delta, infrared = tensors.pop("delta"), tensors.pop("infrared", None)
        for one in (delta, delta if infrared is None else infrared):
            if one.shape != delta.shape or one.ndim != 3 or len(one) != 3 or not bool(one.isfinite().all()):
                raise BadInput(
                    f"{path}: the perturbation must be finite and 3 x H x W, got {tuple(one.shape)}"
                )
        loaded = cls(
            delta,
            {name.removeprefix("modules."): tensor for name, tensor in tensors.items()},
            _facts(path, header, "provenance"),
            _facts(path, header, "fit_log"),
            infrared,
        )
        if loaded.digest != header.get("digest"):
            raise BadInput(f"{path} was altered after it was written: its digest does not match its tensors")
        if header["format"] != _FORMER and header.get("seal") != _seal(header):
            raise BadInput(f"{path} was altered after it was written: its digest does not match its header")
        return loaded


def stored_fit(path: Path) -> str | None:
    """The id of the fit that a header names, without reading tensors; BadInput for a file that is no such."""
    header, _ = _contents(path, tensors=False)
    return _facts(path, header, "provenance").get("fit")


def _contents(path: Path, tensors: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Header and tensors of a file; no tensors if only the header is asked for."""
    if not path.is_file():
        raise BadInput(f"no perturbation at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys() if tensors else ()
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except Exception as error:  # a dtype that torch lacks can make the reader fail in any way
        raise BadInput(f"{path} is not a safetensors file: {shortened(str(error))}") from error


def _seal(header: Mapping[str, str]) -> str:
    text = json.dumps([header.get(name) for name in ("digest", "provenance", "fit_log")])
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(path: Path, header: Mapping[str, str], name: str) -> dict[str, Any]:
    try:
        found = json.loads(header.get(name, "{}"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: the {name} in its header is not JSON") from error
    if not isinstance(found, dict):
        raise BadInput(f"{path}: the {name} in its header is no JSON object")
    if _is_nested_deeper(found, _DEEPEST):
        raise BadInput(f"{path}: the {name} in its header nests more than {_DEEPEST} objects")
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise BadInput(f"{path}: the {name} in its header holds characters that no text has") from error
    return found


def _is_nested_deeper(value: Any, levels: int) -> bool:
    """Whether dictionaries and lists are nested deeper than ``levels``."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_is_nested_deeper(one, levels - 1) for one in inside)
