"""The equations of FSAM-UAP one by one, its switches, its controls and its alarms."""

from __future__ import annotations

import math

import pytest
import torch
from tiny import make_training
from torch import nn

from vbench.attacks.build import build_attack
from vbench.attacks.fsam_uap.losses import aqal, distances, one_way
from vbench.attacks.fsam_uap.modules import FSAM, KINDS, SFM, attention, mask_phase
from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality

THREAT = ThreatModel("8/255")
QUICK = "evaluations=720,batch=12,hinge=soft,stages=stem,layer1"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def features(seed=0, shape=(2, 3, 6, 4)):
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


class Constant(nn.Module):
    """An attention of one value everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x[:, :1], self.value)


def test_fsam_with_a_mask_of_one_is_the_identity():
    assert torch.allclose(FSAM(Constant(1.0))(features()), features(), atol=1e-12)


def test_fsam_with_a_mask_of_zero_keeps_amplitude_and_drops_phase():
    out = FSAM(Constant(0.0))(features())
    expected = torch.fft.ifft2(torch.fft.fft2(features()).abs()).real
    assert torch.allclose(out, expected, atol=1e-12)
    assert torch.allclose(torch.fft.fft2(out).imag, torch.zeros_like(out), atol=1e-9)


def test_fsam_turns_the_phase_of_a_single_wave():
    """cos(w x + p) has its phase p at one frequency: halving it moves the wave to p / 2."""
    x = torch.arange(8, dtype=torch.float64)
    wave = torch.cos(2 * math.pi * x / 8 + 1.0).view(1, 1, 1, 8)
    spectrum = torch.fft.rfft2(wave)
    half = torch.full((1, 1, 1, 8), 0.5, dtype=torch.float64)
    moved = mask_phase(spectrum, spectrum.angle(), half, 8)
    assert torch.allclose(moved.view(-1), torch.cos(2 * math.pi * x / 8 + 0.5), atol=1e-12)


SHAPES = [(2, 3, 6, 4), (2, 3, 5, 3), (2, 3, 6, 5), (2, 3, 5, 4), (2, 3, 1, 2), (2, 3, 2, 1)]


@pytest.mark.parametrize("shape", SHAPES)
def test_fsam_is_the_published_formula_term_by_term(shape):
    """On the full spectrum, with a mask that is not symmetric; sizes even and odd."""
    spatial = attention("cbam_spatial", 3, 0.7, seeded()).double()
    f = features(shape=shape)
    spectrum = torch.fft.fft2(f)
    phase = torch.atan2(spectrum.imag, spectrum.real)
    pooled = torch.stack([phase.mean(1), phase.max(1).values], 1)
    mask = torch.sigmoid(nn.functional.conv2d(pooled, spatial.conv.weight, spatial.conv.bias, padding=3))
    amplitude = (spectrum.real**2 + spectrum.imag**2).sqrt()
    angle = mask * phase
    expected = torch.fft.ifft2(torch.complex(amplitude * angle.cos(), amplitude * angle.sin())).real
    assert torch.allclose(FSAM(spatial)(f), expected, atol=1e-12)
    assert torch.allclose(FSAM(spatial).mask(f), mask, atol=1e-12)


def test_sfm_multiplies_features_by_the_mask():
    assert torch.allclose(SFM(Constant(0.25))(features()), features() / 4)


@pytest.mark.parametrize("kind", KINDS)
def test_attention_masks_start_where_told_and_broadcast(kind):
    module = attention(kind, 3, 0.8, seeded()).double()
    mask = module(torch.zeros(2, 3, 6, 4, dtype=torch.float64))
    assert torch.broadcast_shapes(mask.shape, (2, 3, 6, 4)) == (2, 3, 6, 4)
    assert ((mask >= 0) & (mask <= 1)).all()
    if kind in ("cbam_spatial", "se"):
        assert torch.allclose(mask, torch.full_like(mask, 0.8), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("module", [FSAM, SFM])
def test_gradients_of_the_modules(kind, module):
    built = module(attention(kind, 3, 0.7, seeded()).double())
    assert torch.autograd.gradcheck(built, features(1).requires_grad_(True), eps=1e-7, atol=1e-4)


def test_gradient_is_finite_where_the_spectrum_is_zero():
    dead = torch.zeros(1, 3, 6, 4, dtype=torch.float64, requires_grad=True)
    built = FSAM(attention("cbam_spatial", 3, 0.7, seeded()).double())
    (gradient,) = torch.autograd.grad(built(dead), dead, torch.ones(1, 3, 6, 4, dtype=torch.float64))
    assert torch.isfinite(gradient).all()


def groups(count=5, seed=0):
    return [torch.randn(count, 7, generator=seeded(seed + k), dtype=torch.float64) for k in range(4)]


@pytest.mark.parametrize("margin", [-1.0, 0.3, 6.0])
def test_one_way_loss_equals_the_triple_loop(margin):
    v2, i2, v1, _ = groups()
    total, active, count = 0.0, 0, 0
    for j in range(5):
        for k in range(5):
            if j == k:
                continue
            value = (v2[j] - v1[j]).norm() - (i2[j] - v1[j]).norm() - (v2[j] - v2[k]).norm() + margin
            total += max(value.item(), 0.0)
            active += value > 0
            count += 1
    found = one_way(i2, v2, v1, margin, "relu")
    assert found.loss.item() == pytest.approx(total / count, abs=1e-9)
    assert found.active == pytest.approx(float(active) / count)


def test_aqal_is_both_directions():
    v2, i2, v1, i1 = groups()
    one, other = one_way(i2, v2, v1, 3.0, "relu"), one_way(v2, i2, i1, 3.0, "relu")
    both = aqal(v2, i2, v1, i1, 3.0, "relu")
    assert both.loss.item() == pytest.approx((one.loss + other.loss).item())
    assert both.active == pytest.approx((one.active + other.active) / 2)


@pytest.mark.parametrize("hinge", ["relu", "soft"])
def test_gradient_of_aqal(hinge):
    def loss(*inputs):
        return aqal(*inputs, 2.0, hinge).loss

    inputs = tuple(group.requires_grad_(True) for group in groups(3))
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-5)


def test_distance_has_no_gradient_where_points_meet():
    a = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(distances(a, a.detach()).sum(), a)
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_soft_hinge_is_softplus_and_never_dead():
    v2, i2, v1, _ = groups()
    hard, soft = (one_way(i2, v2, v1, -50.0, hinge) for hinge in ("relu", "soft"))
    assert hard.active == 0 and hard.loss == 0
    assert soft.loss > 0 and soft.active > 0


def fit(victim, spec, seed=0):
    return build_attack(spec).fit(victim, make_training(victim), THREAT, seeded(seed), quiet=True)


#: Whether a setting matters shows after a few updates.
SHORT = QUICK.replace("720", "120") + ",module_steps=2"
SWITCHES = [
    "",
    "fsam=false",
    "sfm=false",
    "aqal=false",
    "identity=false",
    "stages=stem",
    "mask_start=0.8",
    "attention=se",
    "attention=eca",
    "attention=identity",
    "mask_start=0.6",
    "modules=joint",
    "module_steps=0",
    "module_rate=0.01",
    "anchors=adversarial",
    "margin=3",
    "hinge=relu,margin=6",
    "space=features",
    "space=features,anchors=adversarial",
    "aqal_weight=-1",
    "identity_weight=0.1",
    "plain_weight=1",
    "momentum=0",
    "step_size=1/255",
    "batch=8",
    "evaluations=96",
    "modules=joint,keep_weight=20",
]


def test_every_switch_changes_the_perturbation(victim):
    digests = {}
    for switch in SWITCHES:
        spec = f"fsam_uap[{SHORT},{switch}]"
        digests.setdefault(fit(victim, spec).digest, []).append(switch)
    assert all(len(same) == 1 for same in digests.values()), [s for s in digests.values() if len(s) > 1]


ROWS = [(f, s, a) for f in ("true", "false") for s in ("true", "false") for a in ("true", "false")]


@pytest.mark.parametrize(("fsam", "sfm", "loss"), ROWS)
@pytest.mark.slow
def test_every_row_of_the_published_ablation_spends_the_same_budget(victim, fsam, sfm, loss):
    from vbench.run.craft import Meter

    training = make_training(victim)
    attack = build_attack(f"fsam_uap[{QUICK},fsam={fsam},sfm={sfm},aqal={loss}]")
    with Meter(victim) as meter:
        attack.fit(victim, training, THREAT, seeded(), quiet=True)
    assert 720 - 36 < meter.evaluations <= 720


def test_noise_only_row_is_the_cross_entropy_uap(victim):
    row = fit(victim, f"fsam_uap[{QUICK},fsam=false,sfm=false,aqal=false,module_steps=0]")
    control = fit(victim, "uap[loss=cross_entropy,evaluations=720,batch=12]")
    assert torch.equal(row.delta, control.delta)


def test_a_dead_hinge_is_a_warning(victim):
    learnt = fit(victim, "fsam_uap[evaluations=1440,batch=12,stages=stem,margin=-5]")
    assert learnt.fit_log["warnings"] == ["AQAL inactive (0.0 % of triples)"]


def test_saturated_attention_fails_loudly(victim):
    with pytest.raises(VbenchError, match="is saturated"):
        fit(victim, f"fsam_uap[{QUICK},mask_start=0.9999]")


def test_identity_attention_is_an_explicit_control_and_not_an_alarm(victim):
    assert (
        fit(victim, f"fsam_uap[{QUICK},attention=identity]").fit_log["masks"]["fsam.stem"]["saturated"] == 1.0
    )


def test_without_an_objective_or_a_module_to_keep_is_refused():
    with pytest.raises(BadInput, match="no objective"):
        build_attack("fsam_uap[aqal=false,identity=false]")
    with pytest.raises(BadInput, match="needs fsam or sfm"):
        build_attack("fsam_uap[level=feature,fsam=false,sfm=false]")


def test_unknown_stage_names_the_nearest(victim):
    with pytest.raises(BadInput, match="did you mean 'layer1'"):
        fit(victim, f"fsam_uap[{QUICK},stages=layer2]")


def test_feature_level_keeps_the_modules_and_their_controls(victim, images):
    attack = build_attack(f"fsam_uap[{QUICK},level=feature]")
    learnt = attack.fit(victim, make_training(victim), THREAT, seeded(), quiet=True)
    edits = attack.edits(learnt, victim)
    assert set(edits) == set(victim.stages)
    with torch.no_grad():
        plain = victim(images, Modality.VISIBLE).embedding
        tampered = victim(images, Modality.VISIBLE, edits).embedding
    assert not torch.allclose(plain, tampered)
    controls = {control.name: control for control in attack.controls(learnt, victim, seeded(1))}
    assert not controls["modules, d = 0"].perturbation.delta.any()
    assert controls["modules, d = 0"].perturbation.modules == learnt.modules
    assert controls["d alone (pixel level)"].perturbation.modules == {}
    random = controls["random modules + d"].perturbation
    assert torch.equal(random.delta, learnt.delta)
    assert any(not torch.equal(random.modules[name], learnt.modules[name]) for name in learnt.modules)
    assert controls["modules on the other side, d = 0"].side == "other"


def test_pixel_level_drops_the_modules(victim):
    attack = build_attack(f"fsam_uap[{QUICK}]")
    learnt = attack.fit(victim, make_training(victim), THREAT, seeded(), quiet=True)
    assert learnt.modules == {}
    assert attack.edits(learnt, victim) == {}
    assert attack.controls(learnt, victim, seeded()) == []


def test_perturbation_survives_its_file_and_notices_tampering(victim, tmp_path):
    attack = build_attack(f"fsam_uap[{QUICK},level=feature]")
    learnt = attack.fit(victim, make_training(victim), THREAT, seeded(), quiet=True)
    path = tmp_path / "d.safetensors"
    learnt.save(path)
    again = Perturbation.load(path)
    assert again.digest == learnt.digest
    assert dict(again.provenance) == dict(learnt.provenance)
    data = bytearray(path.read_bytes())
    data[-3] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(BadInput, match="altered"):
        Perturbation.load(path)
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(BadInput, match="not a safetensors file"):
        Perturbation.load(path)


def test_the_perturbation_lowers_the_aqal_it_is_meant_to_minimise(victim):
    training = make_training(victim)
    spec = f"fsam_uap[{QUICK},fsam=false,sfm=false,identity=false]"
    learnt = build_attack(spec).fit(victim, training, THREAT, seeded(), quiet=True)

    def value(delta):
        _, positions = training.pairs(6, seeded(8))
        moved, clean = {}, {}
        for modality in Modality:
            view, index = training[modality], positions[modality]
            with torch.no_grad():
                moved[modality] = victim((view.batch(index) + delta).clamp(0, 1), modality).embedding
            clean[modality] = view.embeddings[index]
        v, i = Modality.VISIBLE, Modality.INFRARED
        return aqal(moved[v], moved[i], clean[v], clean[i], 2.0, "soft").loss.item()

    assert value(learnt.delta) < value(torch.zeros_like(learnt.delta))
    assert value(learnt.delta) < value(learnt.delta.sign() * -8 / 255)
