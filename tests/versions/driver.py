"""Runs every built-in attack and victim on something tiny and prints what comes out, as JSON.

``python driver.py FOLDER`` with a folder of :mod:`pictures`. Each side of the comparison runs the driver of
its own commit, so this file may change with the package. ``INPUTS`` numbers what it feeds: raise it when
that changes, and move the checked commit on.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
import typing
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import vbench
from vbench.attacks.registry import attacks
from vbench.victims.registry import victims

INPUTS = 1
SIZE, CLASSES = (32, 16), 8
#: Settings that keep an attack short, for those that have them.
SHORT = {"evaluations": 64, "batch": 8, "queries": 8, "module_steps": 2, "starts": 2, "width": 8, "blocks": 1}
#: One attack of each library: the others go through the same adapter.
LIBRARIES = ("torchattacks:PGD", "torchattacks:APGD", "art:FastGradientMethod")


class Probe(vbench.Victim):
    """A small smooth network of which no built-in victim is a part."""

    name, summary, paper = "probe", "a victim to compare attacks on", ""
    stages = ("stem", "layer1", "layer2", "layer3", "layer4")

    def __init__(self) -> None:
        super().__init__()
        self.input_size, self.embedding_dim, self.num_classes = SIZE, 12, CLASSES
        self.layers = nn.ModuleList(
            nn.Conv2d(3 if not n else 12, 12, 3, stride=1 + (n < 2), padding=1) for n in range(5)
        )
        self.classifier = nn.Linear(12, CLASSES, bias=False)
        fill(self)

    def forward(self, images: Tensor, modality: Any, edits: Any = None) -> Any:
        current, features, edits = images - 0.5, {}, edits or {}
        for stage, layer in zip(self.stages, self.layers, strict=True):
            current = torch.tanh(2 * layer(current))
            features[stage] = current = edits[stage](current) if stage in edits else current
        pooled = current.mean((2, 3))
        return vbench.VictimOutput(nn.functional.normalize(pooled), self.classifier(pooled), features)


def fill(network: nn.Module) -> None:
    """Values for all parameters and statistics that follow from their names and shapes alone."""
    for name, tensor in network.state_dict().items():
        if tensor.is_floating_point():
            seed = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16)
            drawn = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))
            fan = max(1, tensor[0].numel()) if tensor.ndim > 1 else 4
            tensor.copy_(drawn.abs() + 0.5 if "var" in name else drawn / fan**0.5)


def choices(hints: dict[str, Any], usual: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Nothing, and then every other choice of each setting that is one of several, one at a time."""
    yield {}
    for name, default in usual.items():
        hint = hints.get(name)
        options = [not default] if isinstance(default, bool) else typing.get_args(hint)
        if isinstance(default, bool) or typing.get_origin(hint) is typing.Literal:
            yield from ({name: option} for option in options if option != default)


def of_attacks(folder: str) -> Iterator[tuple[str, int | None, str, Any]]:
    """Name, version, case and outcome of every case of every attack."""
    probe = Probe().eval()
    for name in (*built_in(attacks), *LIBRARIES):
        cls = attacks.load(name)
        for case, settings in cases(cls):
            # All budgets with the usual settings, and the most usual budget with all others.
            budgets = [("linf", "8/255"), *([("l2", "0.5")] if not case else [])]
            for norm, eps in budgets:
                if norm in cls.norms:
                    threat = vbench.ThreatModel(eps, norm, quantize=norm == "linf")
                    outcome = attacked(probe, cls, settings, threat, folder)
                    yield name, getattr(cls, "version", None), f"{name}{case} {norm}", outcome


def built_in(registry: Any) -> list[str]:
    """The names of vbench's own attacks or victims."""
    return [entry.name for entry in registry.entries() if entry.origin == "vbench"]


def cases(cls: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is run of an attack: its usual settings (an empty text), each other choice, each preset."""
    usual = {field.name: field.default for field in dataclasses.fields(cls)}
    for given in choices(typing.get_type_hints(cls), usual):
        yield str(given or ""), given
    yield from ((f" preset {name}", dict(given)) for name, given in getattr(cls, "PRESETS", {}).items())


def made(cls: Any, settings: dict[str, Any]) -> Any:
    """The attack, made short; a battery with its members made short."""
    names = [field.name for field in dataclasses.fields(cls)]
    if not hasattr(cls, "attacks"):
        return cls(**{**settings, **{key: SHORT[key] for key in names if key in SHORT}})
    members = tuple(made(type(one), _changed(one)) for one in cls(**settings).attacks())
    return type("Short", (cls,), {"name": "short", "attacks": lambda self: members})()


def _changed(attack: Any) -> dict[str, Any]:
    fields = dataclasses.fields(attack)
    return {one.name: getattr(attack, one.name) for one in fields if getattr(attack, one.name) != one.default}


def attacked(probe: Probe, cls: Any, settings: dict[str, Any], threat: Any, folder: str) -> Any:
    """What one run gives: how images changed, how they rank, what was learnt; or why it cannot run."""
    where = {"dataset": "regdb", "root": folder, "device": "cpu", "precision": "float32"}
    try:
        attack = made(cls, settings)
        found = vbench.evaluate(probe, attack, threat=threat, ignore_gates=True, **where)
    except vbench.VbenchError:
        # Which kind of refusal it is belongs to the runner, not to the attack.
        return "refused"
    record = found.record
    sizes = {name: record.size[name] for name in ("linf_levels", "l2", "psnr_db", "asked")}
    ranked = {name: digest(record.per_query[name].data) for name in ("adversarial_rank", "adversarial_ap")}
    learnt = digest(found.perturbation.delta) if attack.universal else None
    members = [repr(one) for one in cls(**settings).attacks()] if hasattr(cls, "attacks") else []
    return [sizes, ranked, learnt, members]


def of_victims() -> Iterator[tuple[str, int | None, str, Any]]:
    """Name, version, case and outputs of every victim with every setting of its ranking."""
    images = torch.rand(4, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    for name in built_in(victims):
        cls = victims.load(name)
        hints = typing.get_type_hints(cls.__init__)
        plain = cls(num_classes=CLASSES, **thin(cls))
        usual = {key: getattr(plain, key) for key in cls.SETTINGS if key in hints}
        for given in choices(hints, usual):
            victim = cls(num_classes=CLASSES, **thin(cls), **given).eval()
            fill(victim)
            yield name, getattr(cls, "version", None), f"{name}{given or ''}", outputs(victim, images)


def thin(cls: Any) -> dict[str, Any]:
    """The thin variant of a victim for the smallest images."""
    width = {"width": 0.125} if isinstance(cls.THIN.get("width"), float) else {}
    return {**cls.THIN, "input_size": SIZE, **width}


def outputs(victim: Any, images: Tensor) -> list[str]:
    """Digests of all that a victim returns for both modalities, and of the gradient that attacks follow."""
    found = []
    for modality in vbench.Modality:
        given = images.clone().requires_grad_(True)
        output = victim(given, modality)
        (gradient,) = torch.autograd.grad(output.embedding.square().sum() + output.embedding.sum(), given)
        more = [*output.features.values(), *output.parts.values()]
        logits = [] if output.logits is None else [output.logits]
        found += [digest(one) for one in (output.embedding, gradient, *logits, *more)]
    return found


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits over a text or a tensor."""
    data = value.encode() if isinstance(value, str) else value.detach().contiguous().numpy().tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def main() -> None:
    """Print {"package", "inputs", "results": [[kind, name, version, case, outcome], ...]}."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    found = [["attack", *one] for one in of_attacks(sys.argv[1])]
    found += [["victim", *one] for one in of_victims()]
    print(json.dumps({"package": vbench.__path__[0], "inputs": INPUTS, "results": found}))


if __name__ == "__main__":
    main()
