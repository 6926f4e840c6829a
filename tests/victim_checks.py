"""What tests of single victims check alike."""

from __future__ import annotations

import pytest
import torch
from released_agw import released_layout, save_released

from vbench.core.errors import BadInput
from vbench.victims.load import build_victim, load_victim


def check_gradient(victim, modality, image, direction, step, h=1e-7):
    """The gradient of the embedding along ``direction`` is a difference quotient along ``step``; not 0."""

    def score(x):
        return (victim(x, modality).embedding @ direction).sum()

    image = image.requires_grad_()
    (gradient,) = torch.autograd.grad(score(image), image)
    with torch.no_grad():
        numeric = (score(image + h * step) - score(image - h * step)) / (2 * h)
    assert gradient.abs().max() > 0
    torch.testing.assert_close((gradient * step).sum(), numeric, rtol=1e-4, atol=1e-8)


def misfits(*more, missing=(), unexpected=(), misshaped=()):
    """Cases of a test with ``change`` and ``message``: the tensors named, one by one, and ``more``."""

    def as_three(name):
        return lambda state: state.update({name: torch.zeros(3)})

    rows = [(lambda state, name=name: state.pop(name), rf"missing \(1\): {name}") for name in missing]
    rows += [(as_three(name), rf"unexpected \(1\): {name}") for name in unexpected]
    rows += [(as_three(name), rf"wrong shape \(1\): {name} \(3,\)") for name in misshaped]
    return pytest.mark.parametrize(("change", "message"), [*rows, *more])


def check_refused(cls, state, change, message, path, **options):
    """A released file with this ``change`` of its tensors is refused in one line with ``message``."""
    changed = dict(state)
    change(changed)
    with pytest.raises(BadInput, match=message) as caught:
        build_victim(cls, save_released(path, changed), **options)
    assert "\n" not in str(caught.value)


def check_told_apart(cls, article, path, folder, **options):
    """Its file is not taken for AGW's, nor AGW's for its own."""
    name = cls.name
    with pytest.raises(BadInput, match=rf"looks like {article} {name.upper()} checkpoint \(victim {name}\)"):
        load_victim("agw", path, device="cpu")
    agw = save_released(folder / "agw.t", released_layout(6, width=4, blocks=(1, 1, 1, 1)))
    with pytest.raises(BadInput, match="AGW checkpoint"):
        build_victim(cls, agw, **options)


def untrained(victim, batch):
    """The parameters that the losses of a batch should train and do not."""
    torch.stack(list(victim.training_losses(batch).values())).sum().backward()
    trained = [(name, p) for name, p in victim.named_parameters() if p.requires_grad]
    return [name for name, p in trained if p.grad is None or not p.grad.any()]


def hardest_triplet(vectors, labels):
    """Furthest of the same identity against nearest of another, margin 0.3, anchor by anchor."""
    total = 0.0
    for anchor, own in zip(vectors, labels, strict=True):
        gaps = [(float((anchor - v).norm()), other == own) for v, other in zip(vectors, labels, strict=True)]
        furthest, nearest = max(d for d, same in gaps if same), min(d for d, same in gaps if not same)
        total += max(0.0, 0.3 + furthest - nearest)
    return total / len(labels)


def sampled_state(shapes, generator, scale):
    """A state dict of tensors with these shapes; those of less than four dimensions have this ``scale``."""

    def tensor(name, shape):
        if name.endswith("num_batches_tracked"):
            return torch.tensor(3)
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            return torch.empty(shape).uniform_(0.5, 1.5, generator=generator)
        spread = scale if len(shape) < 4 else (2 / (shape[1] * shape[2] * shape[3])) ** 0.5
        return torch.randn(shape, generator=generator) * spread

    return {name: tensor(name, shape) for name, shape in shapes.items()}
