"""Black-box attacks: what a query shows, how many there are, and the search against independent code."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from art.attacks.evasion import SquareAttack
from art.estimators.classification import PyTorchClassifier
from tiny import CLASSES, SIZE, TinyVictim, make_context, pixels

from vbench.attacks.base import Gallery
from vbench.attacks.build import build_attack
from vbench.attacks.distances import squared_distance
from vbench.attacks.libraries import SingleClassifier
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.run.craft import Meter

V = Modality.VISIBLE
THREAT = ThreatModel("8/255")
SPECS = ["square[queries=80]", "simba[queries=80]", "simba[queries=300,basis=pixel]"]


@pytest.fixture
def context(victim, images):
    with torch.no_grad():
        gallery = victim(pixels(30, seed=7).double() / 255, Modality.INFRARED).embedding
    made = make_context(victim, images, V, THREAT)
    return replace(made, gallery=Gallery(gallery, torch.arange(30), torch.arange(16)))


def moved(victim, context, images):
    with torch.no_grad():
        return squared_distance(victim(images, V).embedding, context.clean, victim.similarity)


def lost(victim, context, images, shown=20):
    """Share of the clean list's discounted places that is gone, one image at a time."""
    gains = [1 / np.log2(place + 2) for place in range(shown)]
    values = []
    with torch.no_grad():
        embeddings = victim(images, V).embedding
    for before, after in zip(context.clean, embeddings, strict=True):
        lists = [(e - context.gallery.embeddings).norm(dim=1).tolist() for e in (before, after)]
        old, new = (sorted(range(len(found)), key=found.__getitem__)[:shown] for found in lists)
        kept = sum(gains[old.index(item)] * gains[place] for place, item in enumerate(new) if item in old)
        values.append(1 - kept / sum(gain**2 for gain in gains))
    return torch.tensor(values)


@pytest.mark.parametrize("spec", SPECS)
def test_embeddings_guide_it_further_than_noise(spec, victim, images, context):
    shown = THREAT.enforce(images, build_attack(spec).perturb(victim, images, V, context))
    noise = THREAT.enforce(images, build_attack("noise[kind=sign]").perturb(victim, images, V, context))
    assert (moved(victim, context, shown) > moved(victim, context, noise)).float().mean() > 0.9


@pytest.mark.parametrize("name", ["square", "simba"])
def test_the_ranking_alone_guides_it(name, victim, images, context):
    attack = build_attack(f"{name}[queries=150,feedback=ranking]")
    assert attack.knowledge == {"gallery"} and attack.needs == {"embeddings"}
    shown = THREAT.enforce(images, attack.perturb(victim, images, V, context))
    noise = THREAT.enforce(images, build_attack("noise[kind=sign]").perturb(victim, images, V, context))
    assert lost(victim, context, shown).mean() > 1.5 * lost(victim, context, noise).mean()
    _, clean = attack.oracle(victim, V, context)
    assert torch.allclose(clean, torch.zeros_like(clean))
    query, _ = attack.oracle(victim, V, context)
    assert torch.allclose(query(shown), lost(victim, context, shown).to(shown), atol=1e-9)


def test_distances_of_the_gallery_are_not_seen(victim, images, context):
    attack = build_attack("square[queries=40,feedback=ranking,shown=5]")
    first = attack.perturb(victim, images, V, context)
    far = context.gallery.embeddings.clone()
    ranked = torch.cdist(context.clean, far).argsort(1)[:, :5].unique()
    unseen = [row for row in range(30) if row not in ranked]
    far[unseen] = far[unseen] - 50 * context.clean.mean(0)
    moved_away = replace(context, gallery=replace(context.gallery, embeddings=far))
    query, _ = attack.oracle(victim, V, moved_away)
    same, _ = attack.oracle(victim, V, context)
    assert torch.equal(query(images), same(images))
    says = (
        "attack 'square' with feedback=ranking needs the embeddings of the other side, "
        "and the context holds none"
    )
    with pytest.raises(BadInput, match=f"^{says}$"):
        attack.perturb(victim, images, V, replace(context, gallery=None))
    assert (first != images).any()


@pytest.mark.parametrize("queries", [1, 7, 30])
@pytest.mark.parametrize("name", ["square", "simba"])
def test_queries_are_limited_and_gradients_never_taken(name, queries, victim, images, context):
    meter = Meter(victim)
    with meter:
        build_attack(f"{name}[queries={queries}]").perturb(victim, images, V, context)
    assert meter.forwards == queries * len(images)
    assert meter.evaluations == 0


@pytest.mark.parametrize("name", ["square", "simba"])
def test_more_queries_help(name, victim, images, context):
    extra = {"square": "p=0.2", "simba": "basis=pixel"}[name]
    few, many, most = (
        moved(
            victim, context, build_attack(f"{name}[queries={n},{extra}]").perturb(victim, images, V, context)
        )
        for n in (5, 40, 160)
    )
    assert few.mean() < many.mean() < most.mean()


@pytest.mark.parametrize("feedback", ["embedding", "ranking"])
@pytest.mark.parametrize("name", ["square", "simba"])
def test_an_image_does_not_depend_on_its_batch(name, feedback, victim, images, context):
    attack = build_attack(f"{name}[queries=40,feedback={feedback}]")
    whole = attack.perturb(victim, images, V, context)
    order = torch.tensor([5, 2, 11])
    part = replace(context, seeds=tuple(context.seeds[i] for i in order), clean=context.clean[order])
    assert torch.equal(whole[order], attack.perturb(victim, images[order], V, part))


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_similarity_is_climbed(similarity, images):
    victim = TinyVictim().double().eval()
    victim.similarity = similarity
    context = make_context(victim, images, V, THREAT)
    shown = build_attack("square[queries=40]").perturb(victim, images, V, context)
    assert (moved(victim, context, shown) > moved(victim, context, images)).all()


def test_l2_budget_holds_and_square_refuses_it(victim, images, context):
    threat = ThreatModel("0.7", norm="l2")
    limited = replace(context, threat=threat)
    shown = threat.enforce(images, build_attack("simba[queries=80]").perturb(victim, images, V, limited))
    threat.check(images, shown)
    assert (shown != images).any()
    with pytest.raises(BadInput, match="works in linf, not in l2"):
        build_attack("square[queries=5]").perturb(victim, images, V, limited)


def test_square_is_arts_square_attack_on_the_same_draws(victim, images, context, monkeypatch):
    """ART with its draws replaced by those of each image's generator, on the same objective."""
    attack = build_attack("square[queries=200,p=0.2]")
    ours = attack.perturb(
        victim, images[:4], V, replace(context, seeds=context.seeds[:4], clean=context.clean[:4])
    )
    model = SingleClassifier(victim, V).eval()
    wrapped = PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), (3, *SIZE), CLASSES, clip_values=(0.0, 1.0), device_type="cpu"
    )
    for row in range(4):
        generator = torch.Generator().manual_seed(context.seeds[row])
        stripes = torch.rand(3, 1, SIZE[1], generator=generator, dtype=torch.float64)
        squares = iter(torch.rand(199, 5, generator=generator, dtype=torch.float64).flatten().tolist())
        taken = []

        def choice(values, size, taken=taken, stripes=stripes, squares=squares):
            draws = stripes.numpy() if not taken else np.array([next(squares) for _ in range(3)])
            taken.append(size)
            return np.where(draws < 0.5, values[0], values[1]).reshape(size)

        def randint(low, high, squares=squares):
            return int(next(squares) * (high - low + 1)) + low

        clean = context.clean[row : row + 1]

        def loss(x, y, clean=clean):
            with torch.no_grad():
                embedding = victim(torch.from_numpy(x).double(), V).embedding
            return -squared_distance(embedding, clean, "cosine").numpy()

        monkeypatch.setattr(np.random, "choice", choice)
        monkeypatch.setattr(np.random, "randint", randint)
        theirs = SquareAttack(
            wrapped,
            adv_criterion=lambda predicted, y: np.zeros(len(y), bool),
            loss=loss,
            max_iter=199,
            eps=8 / 255,
            p_init=0.2,
            verbose=False,
        ).generate(images[row : row + 1].numpy(), np.eye(CLASSES)[:1])
        monkeypatch.undo()
        assert np.abs(theirs - ours[row : row + 1].numpy()).max() < 1e-6


@pytest.mark.parametrize("basis", ["dct", "pixel"])
def test_simba_is_its_algorithm_written_out(basis, victim, images, context):
    attack = build_attack(f"simba[queries=60,basis={basis},low=0.5,step=0.4]")
    ours = attack.perturb(
        victim, images[:3], V, replace(context, seeds=context.seeds[:3], clean=context.clean[:3])
    )
    height, width = SIZE
    rows, columns = (height, width) if basis == "pixel" else (height // 2, width // 2)
    for index in range(3):
        generator = torch.Generator().manual_seed(context.seeds[index])
        order = torch.randperm(3 * rows * columns, generator=generator).tolist()
        clean, current, best, left = images[index : index + 1], images[index : index + 1], 0.0, 60
        while left:
            channel, rest = divmod(order.pop(0), rows * columns)
            u, v = divmod(rest, columns)
            wave = torch.zeros(1, 3, height, width, dtype=torch.float64)
            for i in range(height):
                for j in range(width):
                    if basis == "pixel":
                        wave[0, channel, i, j] = (i, j) == (u, v)
                    else:
                        wave[0, channel, i, j] = np.cos(np.pi * (i + 0.5) * u / height) * np.cos(
                            np.pi * (j + 0.5) * v / width
                        )
            wave /= wave.norm()
            for sign in (1, -1):
                if not left:
                    break
                left -= 1
                trial = (clean + (current + sign * 0.4 * wave - clean).clamp(-8 / 255, 8 / 255)).clamp(0, 1)
                seen = THREAT.enforce(clean, trial)
                with torch.no_grad():
                    embedding = victim(seen, V).embedding
                value = squared_distance(embedding, context.clean[index : index + 1], "cosine").item()
                if value >= best:
                    current, best = trial, value
                    break
        assert (ours[index : index + 1] - current).abs().max() < 1e-6


def test_simba_has_an_orthonormal_basis():
    for basis, low in (("dct", 1), ("pixel", 0.5)):
        waves = build_attack(f"simba[basis={basis},low={low}]")._waves(12)
        assert torch.allclose(waves @ waves.T, torch.eye(12, dtype=torch.float64), atol=1e-12)


def test_squares_shrink_on_the_papers_schedule():
    attack = build_attack("square[queries=10001,p=0.05]")
    turns = (0, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)
    sides = [attack.side(turn, 224, 224) for turn in turns]
    assert sides == [max(round((0.05 / 2**n * 224 * 224) ** 0.5), 1) for n in range(10)]
    assert build_attack("square[p=1]").side(0, 288, 144) == 144
