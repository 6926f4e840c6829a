"""Attacks and victims that do what they should not, each in one way."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from tiny import TinyVictim
from torch import nn

from vbench.attacks import PerImageAttack, Perturbation, UniversalAttack

#: Objects that attacks reach though nobody gave them: a test puts some here.
REACHED: list[nn.Module] = []


def per_image(called, craft, knows=()):
    """An attack from a function of the arguments of ``craft``; None leaves the images as they are."""

    @dataclass(frozen=True)
    class Made(PerImageAttack):
        """What a test is about."""

        name = called
        summary = "misbehaves"

        @property
        def knowledge(self):
            return frozenset(knows)

        def craft(self, victim, images, modality, context):
            return craft(victim, images, modality, context)

    return Made()


def universal(called, learn, **methods):
    """A universal attack from a function of the arguments of ``learn``."""

    @dataclass(frozen=True)
    class Made(UniversalAttack):
        """What a test is about."""

        name = called
        summary = "misbehaves"

        def learn(self, victim, train, threat, generator, quiet):
            return learn(victim, train, threat, generator)

    for name, method in methods.items():
        setattr(Made, name, method)
    return Made()


def flat(victim, value=0.02):
    """A perturbation with one value."""
    return Perturbation(torch.full((3, *victim.input_size), value))


def _images(victim, images, modality, context):
    return images.zero_()


def _context(victim, images, modality, context):
    context.clean.zero_()
    context.predictions.zero_()
    context.gallery.embeddings.zero_()
    context.gallery.ids.fill_(7)
    context.gallery.query_ids.fill_(7)
    for one in context.prototypes.values():
        one.zero_()
    context.prototypes.clear()
    object.__setattr__(context.threat, "eps", 1)
    return images


def _data(victim, images, modality, context):
    images.data.fill_(1)
    return images


def _weights(victim, images, modality, context):
    with torch.no_grad():
        for tensor in (*victim.parameters(), *victim.buffers()):
            tensor.zero_()
    return images


def _hooks(victim, images, modality, context):
    victim.register_forward_hook(
        lambda module, inputs, output: replace(output, embedding=output.embedding * 0)
    )
    victim.train().requires_grad_(True)
    victim.similarity = "dot"
    return images


def _training(victim, train, threat, generator):
    for view in train.views.values():
        view.images.zero_()
        view.labels.zero_()
        view.embeddings.zero_()
        view.predictions.zero_()
    with torch.no_grad():
        victim.body.weight.zero_()
    return flat(victim)


def _edits(self, perturbation, victim):
    perturbation.delta.zero_()
    return {"stem": lambda features: features.zero_()}


#: Work on what is theirs: their rows are their own, and nobody else's change.
HARMLESS = (
    per_image("images", _images),
    per_image("context", _context, {"gallery", "training"}),
    per_image("data", _data),
    per_image("weights", _weights),
    per_image("hooks", _hooks),
    universal("training", _training),
    universal("edits", lambda victim, *_: flat(victim), tampers=True, edits=_edits),
)


def _after(change):
    def craft(victim, images, modality, context):
        change(victim)
        return images

    return craft


def _of_the_class(victim):
    type(victim).forward = lambda self, *given: TinyVictim.forward(self, *given)


def _reach(victim):
    for found in REACHED:
        with torch.no_grad():
            found.body.weight.zero_()
        found.norm.running_var.fill_(9)
        found.body.weight.requires_grad_(False)
        found.train()
        found.register_forward_hook(lambda *given: None)
        found.similarity = "dot"


def _hook_all(victim):
    nn.modules.module.register_module_forward_hook(lambda *given: None)


def _fused(victim):
    torch.backends.mkldnn.enabled = not torch.backends.mkldnn.enabled


#: Reach what others depend on: it is put back, and costs them their rows. What the error names.
HARMFUL = {
    "threads": (lambda victim: torch.set_num_threads(torch.get_num_threads() + 1), "number of threads"),
    "dtype": (lambda victim: torch.set_default_dtype(torch.float64), "default dtype"),
    "device": (lambda victim: torch.set_default_device("meta"), "default device"),
    "strict": (lambda victim: torch.use_deterministic_algorithms(True, warn_only=True), "deterministic"),
    "kernels": (_fused, "mkldnn.enabled"),
    "matmul": (lambda victim: torch.set_float32_matmul_precision("medium"), "matmul precision"),
    "autocast": (lambda victim: torch.set_autocast_enabled("cpu", True), "autocast on the CPU"),
    "all_hooks": (_hook_all, "hooks on all modules"),
    "errors": (lambda victim: np.seterr(all="raise"), "handling of errors"),
    "class": (_of_the_class, "TinyVictim.forward"),
    "stdout": (lambda victim: setattr(sys, "stdout", sys.__stderr__), "standard output"),
    "reached": (_reach, "of victim 'tiny'"),
}


def harmful():
    """An attack for each of :data:`HARMFUL`."""
    return [per_image(name, _after(change)) for name, (change, _) in HARMFUL.items()]


def _raises(victim, images, modality, context):
    raise ValueError("no such thing\nat all")


def _leaves(victim, images, modality, context):
    sys.exit(0)


def _stops(victim, images, modality, context):
    return next(iter(()))


#: Attacks without a row, and what is said of each.
FAILING = {
    "raises": (_raises, r"misbehaving.py, line \d+: ValueError: no such thing at all"),
    "leaves": (_leaves, r"misbehaving.py, line \d+: SystemExit: 0"),
    "stops": (_stops, r"misbehaving.py, line \d+: StopIteration"),
    "none": (lambda victim, images, *_: None, "torch.Tensor, not a NoneType"),
    "pair": (lambda victim, images, *_: (images, images), "torch.Tensor, not a tuple"),
    "listed": (lambda victim, images, *_: list(images), "torch.Tensor, not a list"),
    "array": (lambda victim, images, *_: images.numpy(), "torch.Tensor, not a ndarray"),
    "short": (lambda victim, images, *_: images[1:], "have shape"),
    "whole": (lambda victim, images, *_: (images * 255).byte(), "floating-point numbers, not torch.uint8"),
    "nan": (lambda victim, images, *_: images / 0 * 0, "yields non-finite pixels"),
    "meta": (lambda victim, images, *_: images.to("meta"), "dense and hold values"),
    "sparse": (lambda victim, images, *_: images.to_sparse(), "dense and hold values"),
}


def failing():
    """An attack for each of :data:`FAILING`."""
    return [per_image(name, craft) for name, (craft, _) in FAILING.items()]


def _draws(draw):
    def craft(victim, images, modality, context):
        noise = torch.as_tensor(draw(tuple(images.shape)), dtype=images.dtype)
        return images + (noise - 0.5).sign() * context.threat.epsilon

    return craft


#: Attacks that draw from global random state.
CHANCE = (
    per_image("torch_chance", _draws(torch.rand)),
    per_image("numpy_chance", _draws(lambda shape: np.random.random(shape))),  # noqa: NPY002
    per_image("fresh_chance", _draws(lambda shape: np.random.default_rng().random(shape))),
    per_image("python_chance", _draws(lambda shape: np.full(shape, random.random()))),
    universal(
        "learnt_chance", lambda victim, *_: Perturbation((torch.rand(3, *victim.input_size) - 0.5) * 0.06)
    ),
)


def victim(forward=None, **attributes):
    """A tiny victim whose forward pass is ``forward(self, images, output)``, with attributes of its class."""

    class Made(TinyVictim):
        name = "made"

        def forward(self, images, modality, edits=None):
            output = super().forward(images, modality, edits)
            return output if forward is None else forward(self, images, output)

    for name, value in attributes.items():
        setattr(Made, name, value)
    return Made()


def _in_place(self, images, output):
    images.sub_(0.5)
    return output


def _in_place_unseen(self, images, output):
    images.data.sub_(0.5)
    return output


def _broken(self, images, output):
    return output.no_such_thing


def _counts(self, images, output):
    type(self).calls = getattr(type(self), "calls", 0) + 1
    return output


#: Victims without a row: what their forward pass does, and what is said of it.
VICTIMS = {
    "in place": (_in_place, "writes to its input"),
    "in place, unseen by autograd": (_in_place_unseen, "writes to its input"),
    "raises": (_broken, r"misbehaving.py, line \d+: AttributeError: .*"),
    "a tuple": (lambda self, images, output: (output.embedding, output.logits), "not a tuple"),
    "none": (lambda self, images, output: None, "must return a VictimOutput, not a NoneType"),
    "no embedding": (lambda self, images, output: replace(output, embedding=None), "not a NoneType"),
    "an array": (
        lambda self, images, output: replace(output, embedding=output.embedding.numpy()),
        "a ndarray",
    ),
    "short": (lambda self, images, output: replace(output, embedding=output.embedding[1:]), "must be 24 x D"),
    "flat": (
        lambda self, images, output: replace(output, embedding=output.embedding[:, 0]),
        "must be 24 x D",
    ),
    "whole": (lambda self, images, output: replace(output, embedding=output.embedding.long()), "torch.int64"),
    "logits": (lambda self, images, output: replace(output, logits=output.logits[:, 1:]), "must be 24 x 6"),
    "nan": (lambda self, images, output: replace(output, embedding=output.embedding / 0 * 0), "not finite"),
    "class": (_counts, "Made.calls"),
}
