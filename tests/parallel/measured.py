"""What must be the same on one process and on several; in float64, where rounding turns no sign."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tiny import TinyVictim, make_context, make_training, pixels
from torch import Tensor, nn

from vbench.attacks.build import build_attack
from vbench.attacks.fsam_uap.modules import FeatureModules
from vbench.core import processes
from vbench.core.launch import launched
from vbench.core.processes import all_reduce
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.run.craft import Meter
from vbench.run.prepare import Surrogate
from vbench.victims.agw import AGW
from vbench.victims.base import Victim
from vbench.victims.embed import embed
from vbench.victims.precision import PLAIN, Precision, compute_in
from vbench.victims.shards import shard_victim

THREAT = ThreatModel("8/255")

#: Every kind of fit; fsam_uap also where the pass forks, reads maps, and lets modules help.
UNIVERSAL = (
    "uap[evaluations=40,batch=10]",
    "uap[evaluations=40,batch=10,update=pooled,starts=2]",
    "cmps[evaluations=40,batch=5]",
    "muap[evaluations=40,batch=10]",
    "mis_ranking[evaluations=30,batch=10,width=4,blocks=1]",
    "fsam_uap[evaluations=60,batch=10,module_steps=2,stages=all]",
    "fsam_uap[evaluations=110,batch=10,module_steps=1,modules=joint,stages=stem,level=feature]",
    "fsam_uap[evaluations=60,batch=10,module_steps=1,anchors=adversarial,stages=layer1,hinge=soft]",
    "fsam_uap[evaluations=50,batch=10,module_steps=1,space=features,attention=se,stages=stem,hinge=soft]",
    "fsam_uap[preset=strong,evaluations=40,batch=10]",
)
#: Both paths in one pass of a victim that can.
FORKING = (
    "fsam_uap[evaluations=50,batch=6,module_steps=1,anchors=adversarial,stages=stem,modules=joint,hinge=soft]"
)
PER_IMAGE = (
    "metric_ifgsm[steps=3]",
    "metric_mifgsm[steps=3,diversity=0.5,restarts=2,momentum=1]",
    "fna[steps=3]",
    "pgd[steps=3]",
    "lta[steps=3]",
    "square[queries=10]",
    "simba[queries=10]",
    "torchattacks:APGD[steps=2]",
)


#: Bits travel as they are in half precision; back to the plain one the parts are still shared.
PRECISIONS = {"channels": Precision(channels_last=True), "bfloat16": Precision("bfloat16"), "plain": PLAIN}


def tiny() -> TinyVictim:
    return TinyVictim().double().eval()


def thin_agw() -> AGW:
    options = {**AGW.THIN, "width": 0.125, "input_size": (32, 16)}
    return AGW(num_classes=6, generator=torch.Generator().manual_seed(3), **options).double().eval()


def images_for(victim: Victim, count: int) -> Tensor:
    images = pixels(count, seed=1).double() / 255
    return nn.functional.interpolate(images, victim.input_size)


def passes(victim: Victim, count: int) -> Iterator[tuple[str, Tensor]]:
    """Outputs of one pass, and a gradient that has come through all of them."""
    variable = images_for(victim, count).requires_grad_(True)
    output = victim(variable, Modality.INFRARED)
    tensors = {"embedding": output.embedding, "logits": output.logits, **output.features}
    tensors |= {f"part {name}": part for name, part in output.parts.items()}
    weights = torch.Generator().manual_seed(5)
    terms = [(t * torch.rand(t.shape, generator=weights, dtype=t.dtype)).sum() for t in tensors.values()]
    # A product of rows makes the gradient of one image depend on others.
    terms.append((output.embedding @ output.embedding.T).square().sum())
    (gradient,) = torch.autograd.grad(torch.stack(terms).sum(), variable)
    yield from {**tensors, "gradient": gradient}.items()


def forked(victim: Victim, count: int) -> Iterator[tuple[str, Tensor]]:
    """A pass that edits fork, with gradients of images and of what the edits hold."""
    channels = {"stem": victim(images_for(victim, 1), Modality.VISIBLE).features["stem"].shape[1]}
    seeded = torch.Generator().manual_seed(4)
    modules = FeatureModules(channels, channels, channels, "cbam_spatial", 0.8, seeded).double()
    variable = images_for(victim, count).requires_grad_(True)
    output = victim(variable, Modality.VISIBLE, modules.forked_edits(Modality.VISIBLE, "x1"))
    x1, x2 = output.embedding.chunk(2)
    loss = (x1 @ x2.T).square().sum() + output.features["layer1"].square().sum() + output.logits.sum()
    gradient, *parameters = torch.autograd.grad(loss, [variable, *modules.parameters()])
    yield from {"embedding": output.embedding, "map": output.features["layer1"], "images": gradient}.items()
    yield from ((f"parameter {place}", own) for place, own in enumerate(all_reduce(parameters)))


def fits(victim: Victim, spec: str) -> Iterator[tuple[str, Tensor]]:
    """What a universal attack learns, logs and costs."""
    training = make_training(victim)
    with Meter(victim) as meter:
        found = build_attack(spec).fit(victim, training, THREAT, torch.Generator().manual_seed(0), quiet=True)
    yield "delta", found.delta
    yield from ((f"module {name}", value) for name, value in found.modules.items())
    yield "cost", torch.tensor([meter.evaluations, meter.forwards])
    yield from (
        (f"log {name}", value) for name, value in _numbers(json.loads(json.dumps(dict(found.fit_log))))
    )


def crafts(victim: Victim, spec: str) -> Iterator[tuple[str, Tensor]]:
    """Adversarial images of an odd batch, and their cost."""
    attack, images = build_attack(spec), images_for(victim, 5)
    context = make_context(victim, images, Modality.VISIBLE, THREAT, training=make_training(victim))
    with Meter(victim) as meter:
        yield "images", attack.perturb(victim, images, Modality.VISIBLE, context)
    yield "cost", torch.tensor([meter.evaluations, meter.forwards])


def short_of_memory(victim: Victim, backward: bool) -> Iterator[tuple[str, Tensor]]:
    """Embeddings, or gradients, of a victim that one process alone has too little memory for."""
    from vbench.core.processes import Batches

    plain, most, taken = victim.forward, 2, []

    def scarce(images: Tensor, *rest: object) -> object:
        alone = processes.processes() == 1 or processes.place().rank == 1
        if alone and len(images) > most and not backward:
            raise torch.cuda.OutOfMemoryError
        if alone and len(images) > most:
            images.register_hook(_no_memory)
        return plain(images, *rest)

    def gradient(rows: slice) -> Tensor:
        taken.append(rows.stop - rows.start)
        variable = images_for(victim, 16)[rows].requires_grad_(True)
        return torch.autograd.grad(victim(variable, Modality.VISIBLE).embedding.sum(), variable)[0]

    victim.forward = scarce
    shard_victim(victim)
    if backward:
        batches, parts = Batches("gradients", 4 * processes.processes(), quiet=True), []
        for rows in batches.over(range(16)):
            with batches.retried():
                parts.append(gradient(rows))
        found = torch.cat(parts)
        yield "halved", torch.tensor(max(taken[-2:]) // processes.processes())
    else:
        stored = pixels(16, seed=1).permute(0, 2, 3, 1)
        found = embed(victim, stored, Modality.VISIBLE, batch=4, quiet=True).embeddings
    yield "found", found


def _no_memory(gradient: Tensor) -> None:
    raise torch.cuda.OutOfMemoryError


def _numbers(log: object, name: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(log, dict):
        for key, value in log.items():
            yield from _numbers(value, f"{name} {key}")
    elif isinstance(log, int | float):
        yield name, torch.tensor(float(log), dtype=torch.float64)


def _flags(victim: Victim) -> list[object]:
    parameters = [(one.requires_grad, one.grad) for one in victim.parameters()]
    return [*parameters, *(module.training for module in victim.modules())]


class _Found(dict):
    """Measurements by name."""

    def add(self, name: str, measured: Iterable[tuple[str, Tensor]]) -> None:
        self.update({f"{name}: {part}": value.detach().clone() for part, value in measured})


def outputs(victims: dict[str, Victim], counts: Sequence[int]) -> dict[str, Tensor]:
    """What comes out of victims, alone and inside a surrogate, and that nothing else changes about them."""
    found = _Found()
    for name, victim in victims.items():
        before, flags = {key: value.clone() for key, value in victim.state_dict().items()}, _flags(victim)
        for count in counts:
            found.add(f"{name}, {count} images", passes(victim, count))
        stored = nn.functional.interpolate(pixels(13, seed=8).float(), victim.input_size).to(torch.uint8)
        embedded = embed(victim, stored.permute(0, 2, 3, 1), Modality.VISIBLE, batch=3, quiet=True)
        found.add(name, vars(embedded).items())
        assert _flags(victim) == flags
        assert all(torch.equal(before[key], value) for key, value in victim.state_dict().items())
    for count in counts:
        found.add(f"forked, {count} images", forked(victims["agw"], count))
    for name, precision in PRECISIONS.items():
        compute_in(victims["agw"], precision)
        found.add(f"{name}, {counts[0]} images", passes(victims["agw"], counts[0]))
    stands_in = Surrogate(list(victims.values()), (24, 12), "lanczos")
    output = stands_in(images_for(stands_in, 5), Modality.VISIBLE)
    found.add("surrogates", {"embedding": output.embedding, "logits": output.logits}.items())
    return found


def attacks(victims: dict[str, Victim]) -> dict[str, Tensor]:
    """What attacks learn and craft, and work where memory is short."""
    found = _Found()
    for spec in UNIVERSAL:
        found.add(spec, fits(victims["tiny"], spec))
    for spec in PER_IMAGE:
        found.add(spec, crafts(victims["tiny"], spec))
    found.add(FORKING, fits(Surrogate([victims["agw"]], victims["tiny"].input_size, "lanczos"), FORKING))
    for backward in (False, True):
        found.add(f"little memory, backward {backward}", short_of_memory(tiny(), backward))
    return found


def everything() -> dict[str, Tensor]:
    """All measurements; of three processes, which parts of a batch must not be even for, outputs alone."""
    victims = {"tiny": tiny(), "agw": thin_agw()}
    for victim in victims.values():
        shard_victim(victim)
    if processes.processes() == 3:
        return outputs(victims, (4, 2))
    return {**outputs(victims, (4, 2)), **outputs(victims, (7, 1)), **attacks(victims)}


def main(folder: Path) -> None:
    place = launched()
    processes.start(place)
    torch.save(dict(everything()), folder / f"{place.rank}.pt")
    processes.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
