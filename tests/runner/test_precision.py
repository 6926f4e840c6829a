"""Mixed precision and channels-last: what changes inside a victim, what never does, and how it is chosen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from tiny import SIZE, TinyVictim, make_context, make_training, pixels

from vbench.attacks.build import build_attack
from vbench.attacks.fsam_uap.modules import FSAM, SFM, attention
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.run.prepare import Trial, candidates, choose
from vbench.victims.agw import AGW
from vbench.victims.precision import DTYPES, PLAIN, Precision, compute_in, precision_of

CPU = torch.device("cpu")
OTHERS = [Precision(dtype, layout) for dtype in DTYPES for layout in (False, True)][1:]


@pytest.fixture
def agw():
    options = {**AGW.THIN, "width": 0.125, "input_size": (32, 16)}
    return AGW(num_classes=6, generator=torch.Generator().manual_seed(3), **options).eval()


def batch(size=(32, 16)):
    return torch.rand(6, 3, *size, generator=torch.Generator().manual_seed(1))


def gradient(victim, images, edits=None):
    variable = images.clone().requires_grad_(True)
    output = victim(variable, Modality.VISIBLE, edits)
    value = output.embedding[:, :5].sum() + output.logits[:, 0].sum()
    return output, torch.autograd.grad(value, variable)[0]


def alike(a, b):
    return torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


@pytest.mark.parametrize("precision", OTHERS, ids=str)
def test_embedding_and_gradient_are_nearly_those_of_float32(precision, agw):
    # AGW's pooling takes roots of 1e-12, which a GPU computes in float32 and a CPU, in float16, cannot.
    victim = TinyVictim().eval() if precision.dtype == "float16" else agw
    images = batch(victim.input_size)
    plain, expected = gradient(victim, images)
    compute_in(victim, precision)
    assert precision_of(victim) == precision
    output, found = gradient(victim, images)
    tensors = (output.embedding, output.logits, *output.parts.values(), *output.features.values(), found)
    assert all(tensor.dtype == torch.float32 for tensor in tensors)
    assert alike(output.embedding, plain.embedding) > 0.999
    assert alike(found, expected) > (0.9999 if precision.dtype == "float32" else 0.98)
    assert found.norm().item() == pytest.approx(expected.norm().item(), rel=0.05)
    if precision.dtype != "float32":
        assert not torch.equal(output.embedding, plain.embedding)
    compute_in(victim, PLAIN)
    again, back = gradient(victim, images)
    assert torch.equal(again.embedding, plain.embedding) and torch.equal(back, expected)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_edits_work_in_float32_and_learn_at_the_true_scale(dtype, agw):
    seeded = torch.Generator().manual_seed(2)
    seen = []

    def edit(features):
        seen.append((features.dtype, torch.is_autocast_enabled("cpu")))
        return modules(features)

    def gradients():
        output = agw(batch(), Modality.VISIBLE, {"stem": edit})
        return torch.autograd.grad(output.embedding[:, :5].sum(), list(modules.parameters()))

    channels = agw(batch(), Modality.VISIBLE).features["stem"].shape[1]
    modules = torch.nn.Sequential(
        *(kind(attention("cbam_spatial", channels, 0.8, seeded)) for kind in (FSAM, SFM))
    )
    expected = gradients()
    compute_in(agw, Precision(dtype))
    found = gradients()
    assert set(seen) == {(torch.float32, False)}
    together = [torch.cat([part.flatten() for part in parts]) for parts in (expected, found)]
    assert alike(*together) > 0.98
    assert together[1].norm().item() == pytest.approx(together[0].norm().item(), rel=0.1)


def test_float16_keeps_gradients_that_would_be_zero(agw):
    compute_in(agw, Precision("float16"))
    variable = batch().requires_grad_(True)
    (found,) = torch.autograd.grad(1e-6 * agw(variable, Modality.VISIBLE).embedding[:, :5].sum(), variable)
    assert (found != 0).float().mean() > 0.5


@pytest.mark.parametrize("spec", ["metric_ifgsm", "pgd", "uap[evaluations=48,batch=6]"])
def test_attacks_run_in_bfloat16_as_they_are(spec):
    victim, attack = TinyVictim().eval(), build_attack(spec)
    images, threat = pixels(8, seed=1).float() / 255, ThreatModel("8/255")
    assert images.shape[2:] == SIZE
    shown = []
    for precision in (PLAIN, Precision("bfloat16", channels_last=True)):
        compute_in(victim, precision)
        training = make_training(victim)
        if attack.universal:
            learnt = attack.fit(victim, training, threat, torch.Generator().manual_seed(0), quiet=True)
            adversarial = learnt.apply(images)
        else:
            context = make_context(victim, images, Modality.VISIBLE, threat)
            adversarial = attack.perturb(victim, images, Modality.VISIBLE, context)
        shown.append(threat.enforce(images, adversarial))
        threat.check(images, shown[-1])
    same = (shown[0] == shown[1]).float().mean()
    assert 0.6 < same < 1


def test_the_fastest_that_leaves_the_ranking_alone_is_chosen():
    first, fast, faster = Precision(), Precision("bfloat16"), Precision("bfloat16", True)
    trials = [Trial(first, 1.0, 80.0), Trial(fast, 0.7, 80.4), Trial(faster, 0.5, 79.4)]
    assert choose(trials).precision == fast
    assert choose([trials[0], Trial(fast, 0.7, 80.5)]).precision == first
    assert choose([trials[0], Trial(fast, 0.97, 80.0)]).precision == first
    assert choose([trials[0], Trial(faster, 0.5, 80.0), trials[1]]).precision == faster


def test_nothing_is_tried_on_a_cpu_unasked():
    assert candidates("auto", None, CPU) == [PLAIN]
    assert candidates("bfloat16", None, CPU) == [Precision("bfloat16")]
    assert candidates("auto", True, CPU) == [Precision("float32", True)]
    with pytest.raises(BadInput, match="float16 needs a GPU"):
        candidates("float16", None, CPU)
    with pytest.raises(BadInput, match="did you mean 'bfloat16'"):
        candidates("bfloat", None, CPU)


def test_a_gpu_tries_what_was_left_open(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=7))
    assert [str(found) for found in candidates("auto", None, gpu)] == [
        "float32",
        "float32, channels-last",
        "float16",
        "float16, channels-last",
    ]
    assert candidates("float32", False, gpu) == [PLAIN]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=9))
    assert candidates("auto", False, gpu) == [PLAIN, Precision("bfloat16")]
