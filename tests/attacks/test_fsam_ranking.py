"""FSAM-UAP by the ranking it breaks: the loss against triple loops, its settings, its presets."""

from __future__ import annotations

import pytest
import torch
from tiny import TinyVictim, make_training

from vbench.attacks.build import build_attack
from vbench.attacks.distances import squared_distance
from vbench.attacks.fsam_uap.losses import RankingLoss
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.run.craft import Meter

THREAT = ThreatModel("8/255")
#: Whether a setting matters shows after a few updates.
QUICK = (
    "preset=strong,update=pooled,fsam=true,sfm=true,module_steps=2,"
    "evaluations=240,batch=12,stages=stem,layer1,starts=2"
)
V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741


@pytest.fixture(scope="module")
def victim():
    return TinyVictim().double().eval()


def fit(victim, spec, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return build_attack(spec).fit(victim, make_training(victim), THREAT, generator, quiet=True)


def literal(train, embeddings, positions, margin, similarity):
    """The loss as written in its docstring, one triple after the other."""
    total, active = 0.0, 0.0
    for modality, embedding in embeddings.items():
        centroids = train.prototypes(modality.other)
        clean = train[modality].embeddings
        table = torch.tensor(
            [[squared_distance(e[None], c[None], similarity) for c in centroids] for e in clean]
        )
        gap = table.mean() - table.min(1).values.mean()
        terms = []
        for point, position in zip(embedding, positions[modality], strict=True):
            own = train.identities.tolist().index(train[modality].labels[position])
            distance = [squared_distance(point[None], c[None], similarity).item() for c in centroids]
            terms += [
                (distance[k] - distance[own]) / gap.item() + margin for k in range(len(centroids)) if k != own
            ]
        total += sum(max(term, 0.0) for term in terms) / len(terms)
        active += sum(term > 0 for term in terms) / len(terms) / 2
    return total, active


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("margin", [0.0, 0.5, -0.2])
def test_ranking_loss_equals_the_triple_loop(victim, similarity, margin):
    train = make_training(victim)
    generator = torch.Generator().manual_seed(5)
    _, positions = train.pairs(4, generator)
    embeddings = {m: torch.randn(4, 10, generator=generator, dtype=torch.float64) for m in (V, I)}
    found = RankingLoss(train, similarity)(embeddings, positions, margin, "relu")
    loss, active = literal(train, embeddings, positions, margin, similarity)
    assert found.loss.item() == pytest.approx(loss)
    assert found.active == pytest.approx(active)


def test_gradient_of_the_ranking_loss(victim):
    train = make_training(victim)
    _, positions = train.pairs(3, torch.Generator().manual_seed(1))
    loss = RankingLoss(train, "cosine")
    points = torch.randn(3, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def soft(x):
        return loss({V: x, I: 2 * x + 1}, positions, 0.5, "soft").loss

    assert torch.autograd.gradcheck(soft, points.requires_grad_(True))


def test_lowering_the_loss_ranks_others_before_the_own_identity(victim):
    """Clean training images are ranked right on average; the learnt perturbation lowers the loss."""
    train = make_training(victim)
    learnt = fit(victim, "fsam_uap[preset=strong,identity=false,evaluations=1440,batch=12]")
    loss = RankingLoss(train, victim.similarity)
    rows = {m: torch.arange(len(train[m].labels)) for m in (V, I)}

    def value(delta):
        with torch.no_grad():
            found = {m: victim((train[m].batch(rows[m]) + delta).clamp(0, 1), m).embedding for m in (V, I)}
        return loss(found, rows, 0.5, "relu").loss.item()

    noise = (
        THREAT.epsilon
        * torch.randn(
            learnt.delta.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
        ).sign()
    )
    assert value(learnt.delta) < value(noise)
    assert value(learnt.delta) < value(torch.zeros_like(learnt.delta))


SWITCHES = [
    "",
    "fsam=false",
    "sfm=false",
    "identity=false",
    "aqal=false",
    "update=sign",
    "update=sign,momentum=0.5",
    "update=sign,step_size=1/255",
    "rate=0.01",
    "votes=batch",
    "starts=1",
    "starts=3",
    "start_share=0.3",
    "margin=3",
    "hinge=soft",
    "identity_weight=3",
    "reading=quadruple,margin=2",
    "modules=joint",
    "batch=8",
]


@pytest.mark.slow
def test_every_setting_changes_the_perturbation(victim):
    digests = {}
    for switch in SWITCHES:
        own = {text.partition("=")[0] for text in switch.split(",")}
        kept = [text for text in QUICK.split(",") if text.partition("=")[0] not in own]
        values = ",".join([*kept, switch] if switch else kept)
        digests.setdefault(fit(victim, f"fsam_uap[{values}]").digest, []).append(switch)
    assert all(len(same) == 1 for same in digests.values()), [s for s in digests.values() if len(s) > 1]


@pytest.mark.parametrize(
    "spec", ["fsam=true", "sfm=true", "modules=joint,fsam=true", "update=pooled", "starts=1"]
)
def test_every_update_spends_the_same_budget(victim, spec):
    with Meter(victim) as meter:
        fit(victim, f"fsam_uap[preset=strong,evaluations=720,batch=12,stages=stem,module_steps=5,{spec}]")
    assert 720 - 36 < meter.evaluations <= 720


@pytest.mark.parametrize("attack", ["uap", "fsam_uap"])
def test_pooled_fits_are_deterministic_and_follow_their_seed(victim, attack):
    more = ",stages=stem" if attack == "fsam_uap" else ""
    spec = f"{attack}[evaluations=300,batch=12,update=pooled,starts=2{more}]"
    assert torch.equal(fit(victim, spec, 1).delta, fit(victim, spec, 1).delta)
    assert not torch.equal(fit(victim, spec, 1).delta, fit(victim, spec, 2).delta)


def test_the_strong_preset_has_no_modules():
    strong = build_attack("fsam_uap[preset=strong]")
    assert not strong.fsam and not strong.sfm and strong.reading == "ranking"


def test_the_ranking_reading_refuses_what_it_cannot_compare():
    for setting in ("anchors=adversarial", "space=features"):
        with pytest.raises(BadInput, match="need reading=quadruple"):
            build_attack(f"fsam_uap[reading=ranking,{setting}]")
