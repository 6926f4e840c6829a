"""Each attack raises its own objective, agrees with closed forms, and more steps do not weaken it."""

from __future__ import annotations

import math

import pytest
import torch
import torchattacks
from tiny import make_context, make_training
from torch.nn.functional import cross_entropy, normalize

from vbench.attacks.base import Gallery
from vbench.attacks.build import build_attack
from vbench.attacks.classification import Classifier
from vbench.attacks.distances import pairwise_squared, squared_distance
from vbench.attacks.steps import accumulate, ascend, direction
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.metrics import ranking_distance

V, I = Modality.VISIBLE, Modality.INFRARED  # noqa: E741
THREAT = ThreatModel("8/255")


def craft(spec, victim, images, modality=I, threat=THREAT, training=None):
    context = make_context(victim, images, modality, threat, training=training)
    return threat.enforce(images, build_attack(spec).perturb(victim, images, modality, context))


def moved(victim, images, shown, modality=I):
    with torch.no_grad():
        return squared_distance(
            victim(shown, modality).embedding, victim(images, modality).embedding, "cosine"
        )


@pytest.mark.parametrize("name", ["metric_fgsm", "metric_ifgsm", "metric_mifgsm"])
def test_metric_attacks_move_away_from_the_own_embedding_more_than_noise(name, victim, images):
    attacked = moved(victim, images, craft(name, victim, images))
    noise = moved(victim, images, craft("noise[kind=sign]", victim, images))
    assert (attacked > noise).float().mean() > 0.9
    assert attacked.mean() > 2 * noise.mean()


def test_metric_attack_leaves_training_guides(victim, images):
    training = make_training(victim)
    shown = craft("metric_ifgsm[guides=training]", victim, images, training=training)
    prototypes = training.prototypes(V)
    with torch.no_grad():
        before, after = (victim(x, I).embedding for x in (images, shown))
    guides = prototypes[pairwise_squared(before, prototypes, "cosine").argmin(1)]
    gain = squared_distance(after, guides, "cosine") - squared_distance(before, guides, "cosine")
    assert (gain > 0).all()


def test_gallery_guides_are_the_mean_of_the_querys_own_identity(victim, images):
    generator = torch.Generator().manual_seed(3)
    gallery = torch.randn(5, 10, generator=generator, dtype=torch.float64)
    ids, query_ids = torch.tensor([1, 2, 2, 3, 1]), torch.tensor([2] * 15 + [9])
    context = make_context(victim, images, I)
    attack = build_attack("metric_ifgsm[guides=gallery]")
    assert attack.knowledge == {"gallery"}
    known = type(context)(**{**vars(context), "gallery": Gallery(gallery, ids, query_ids)})
    guides = attack._guides(victim, I, known)
    unit = normalize(gallery, dim=1)
    assert torch.allclose(guides[0], (unit[1] + unit[2]) / 2)
    assert torch.equal(guides[15], context.clean[15])
    says = (
        "attack 'metric_ifgsm' with guides=gallery needs the embeddings of the other side, "
        "and the context holds none"
    )
    with pytest.raises(BadInput, match=f"^{says}$"):
        attack.perturb(victim, images, I, context)


def test_odfa_turns_the_embedding_toward_its_opposite(victim, images):
    shown = craft("odfa", victim, images)
    with torch.no_grad():
        cosine = (victim(shown, I).embedding * victim(images, I).embedding).sum(1)
    noise = craft("noise[kind=sign]", victim, images)
    with torch.no_grad():
        floor = (victim(noise, I).embedding * victim(images, I).embedding).sum(1)
    assert (cosine < floor).float().mean() > 0.9


@pytest.mark.parametrize("name", ["fgsm", "pgd", "mifgsm"])
def test_classification_attacks_raise_cross_entropy(name, victim, images):
    classifier = Classifier(victim, I)
    with torch.no_grad():
        labels = classifier(images).argmax(1)
        before = cross_entropy(classifier(images), labels, reduction="none")
        after = cross_entropy(classifier(craft(name, victim, images)), labels, reduction="none")
    assert (after > before).all()


def test_the_shared_loop_is_projected_gradient_descent(victim, images):
    """Our step loop on the cross-entropy against an independent library, step for step."""
    classifier = Classifier(victim, I).eval()
    labels = classifier(images).argmax(1)
    theirs = torchattacks.PGD(classifier, eps=8 / 255, alpha=2 / 255, steps=7, random_start=False)(
        images, labels
    )
    ours = ascend(
        images,
        images,
        lambda x: cross_entropy(classifier(x), labels, reduction="none"),
        ThreatModel("8/255"),
        steps=7,
        step_size=2 / 255,
    )
    assert torch.allclose(theirs, ours, atol=1e-12)


def test_the_shared_loop_with_momentum_is_mifgsm(victim, images):
    classifier = Classifier(victim, I).eval()
    labels = classifier(images).argmax(1)
    theirs = torchattacks.MIFGSM(classifier, eps=8 / 255, alpha=2 / 255, steps=7, decay=0.9)(images, labels)

    def objective(x):
        return cross_entropy(classifier(x), labels, reduction="none")

    ours = ascend(images, images, objective, ThreatModel("8/255"), 7, 2 / 255, momentum=0.9)
    assert (theirs - ours).abs().max() < 1e-9


def test_v1_of_the_classification_attacks_is_torchattacks_which_it_ran(victim, images):
    """On the 8-bit grid, where the victim sees them."""
    classifier = Classifier(victim, I).eval()
    labels = classifier(images).argmax(1)
    theirs = {
        "fgsm": torchattacks.FGSM(classifier, eps=8 / 255),
        "pgd": torchattacks.PGD(classifier, eps=8 / 255, alpha=2 / 255, steps=10, random_start=False),
        "mifgsm": torchattacks.MIFGSM(classifier, eps=8 / 255, alpha=2 / 255, steps=10, decay=1.0),
    }
    for name, engine in theirs.items():
        shown = craft(f"{name}[preset=v1]", victim, images)
        assert torch.equal(shown, THREAT.enforce(images, engine(images, labels))), name


@pytest.mark.parametrize("name", ["metric_ifgsm", "odfa", "pgd"])
def test_more_steps_are_not_weaker(name, victim, images):
    few, many = (moved(victim, images, craft(f"{name}[steps={n}]", victim, images)) for n in (1, 20))
    if name == "pgd":
        classifier = Classifier(victim, I)
        labels = classifier(images).argmax(1)
        few, many = (
            cross_entropy(classifier(craft(f"pgd[steps={n}]", victim, images)), labels, reduction="none")
            for n in (1, 20)
        )
    assert many.mean() > few.mean()


def test_accumulate_has_unit_mean_magnitude_and_keeps_zero(images):
    gradient = images * 37
    step = accumulate(torch.zeros_like(images), gradient, 0.5)
    assert torch.allclose(step.abs().flatten(1).mean(1), torch.ones(len(images), dtype=torch.float64))
    assert not accumulate(torch.zeros_like(images), torch.zeros_like(images), 0.5).any()


def test_l2_direction_is_a_unit_vector(images):
    assert torch.allclose(direction(images, "l2").flatten(1).norm(dim=1), torch.ones(16, dtype=torch.float64))


@pytest.mark.parametrize("name", ["noise", "metric_ifgsm", "odfa"])
def test_l2_budget(name, victim, images):
    threat = ThreatModel("0.5", norm="l2")
    shown = craft(name, victim, images, threat=threat)
    norms = (shown - images).flatten(1).norm(dim=1)
    assert norms.max() <= 0.5 + 1e-9
    assert norms.min() > 0.2


def test_norm_an_attack_cannot_work_in_is_refused(victim, images):
    with pytest.raises(BadInput, match="works in linf"):
        craft("pgd", victim, images, threat=ThreatModel("0.5", norm="l2"))


def test_a_victim_without_classifier_is_refused(victim, images):
    victim.num_classes = 0
    with pytest.raises(BadInput, match="identity classifier"):
        craft("pgd", victim, images)


@pytest.mark.parametrize("loss", ["pair", "list"])
def test_uap_raises_its_objective_on_training_identities(loss, victim):
    training = make_training(victim)
    attack = build_attack(f"uap[loss={loss},evaluations=1200,batch=12]")
    learnt = attack.fit(victim, training, THREAT, torch.Generator().manual_seed(0), quiet=True)
    noise = (torch.rand(3, 16, 8, generator=torch.Generator().manual_seed(9)) * 2 - 1).sign() * 8 / 255
    values = {}
    for name, delta in (("clean", torch.zeros(3, 16, 8)), ("noise", noise), ("uap", learnt.delta)):
        total = 0.0
        for modality in Modality:
            view = training[modality]
            images = (view.images.double() / 255 + delta).clamp(0, 1)
            with torch.no_grad():
                embedding = victim(images, modality).embedding
            others = training.prototypes(modality.other)
            total += attack._damage(embedding, view.embeddings, others, victim).item()
        values[name] = total
    assert values["uap"] > max(values["noise"], values["clean"])


def test_uap_with_cross_entropy_raises_it_on_training_identities(victim):
    training = make_training(victim)
    attack = build_attack("uap[loss=cross_entropy,evaluations=1200,batch=12]")
    learnt = attack.fit(victim, training, THREAT, torch.Generator().manual_seed(0), quiet=True)
    noise = (torch.rand(3, 16, 8, generator=torch.Generator().manual_seed(9)) * 2 - 1).sign() * 8 / 255

    def loss(delta):
        views = [(training[modality], modality) for modality in Modality]
        with torch.no_grad():
            logits = [victim((v.images.double() / 255 + delta).clamp(0, 1), m).logits for v, m in views]
        pairs = zip(logits, views, strict=True)
        return sum(cross_entropy(found, view.predictions).item() for found, (view, _) in pairs)

    assert loss(learnt.delta) > max(loss(noise), loss(torch.zeros_like(noise)))


def test_list_loss_is_the_sum_over_all_ranked_pairs(victim):
    """The closed form of the list-wise relation against the double loop over prototype ranks."""
    generator = torch.Generator().manual_seed(0)
    embedding, clean, prototypes = (torch.randn(n, 10, generator=generator).double() for n in (4, 4, 5))
    value = build_attack("uap[loss=list,weighting=equal]")._damage(embedding, clean, prototypes, victim)
    total = 0.0
    for x, c in zip(embedding, clean, strict=True):
        rows = [squared_distance(c[None], p[None], "cosine").item() for p in prototypes]
        order = sorted(range(5), key=rows.__getitem__)
        d = [squared_distance(x[None], prototypes[k][None], "cosine").item() for k in order]
        total += sum(d[m] - d[n] for m in range(5) for n in range(m + 1, 5))
    # The closed form is a mean over images and prototypes of weights divided by (count - 1).
    assert value.item() == pytest.approx(total / (4 * 5 * 4))


def test_weighted_list_loss_is_the_lambda_gradient_of_the_released_code(victim):
    """Its gradient by the distances against a double loop with the weights of UAP's docstring."""
    generator = torch.Generator().manual_seed(1)
    embedding, clean, prototypes = (torch.randn(n, 10, generator=generator).double() for n in (3, 3, 6))
    unit = normalize(prototypes, dim=1)
    free = embedding.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(
        build_attack("uap[loss=list]")._damage(free, clean, prototypes, victim), free
    )
    again = embedding.clone().requires_grad_(True)
    total = torch.zeros(())
    for x, c in zip(normalize(again, dim=1), normalize(clean, dim=1), strict=True):
        order = (c - unit).square().sum(1).argsort().tolist()
        distance = [(x - unit[k]).square().sum() for k in order]
        values = [one.item() for one in distance]
        place = [sorted(values, reverse=True).index(value) + 1 for value in values]
        change = [[abs(math.log2(1 + a) - math.log2(1 + b)) for b in place] for a in place]
        usual = sum(map(sum, change)) / 36
        for m in range(6):
            for n in range(m + 1, 6):
                weight = change[m][n] / (1 + math.exp((values[m] - values[n]) / 2)) / usual
                total = total + weight * (distance[m] - distance[n])
    (expected,) = torch.autograd.grad(total / (3 * 6 * 5), again)
    assert torch.allclose(gradient, expected)


@pytest.mark.parametrize("margin", [None, 0.5])
def test_pair_loss_with_plain_distances_is_the_released_triplet(margin, victim):
    generator = torch.Generator().manual_seed(2)
    embedding, clean, prototypes = (torch.randn(n, 10, generator=generator).double() for n in (4, 4, 5))
    spec = f"uap[distance=euclidean,margin={margin}]"
    value = build_attack(spec)._damage(embedding, clean, prototypes, victim).item()
    gains = []
    for x, c in zip(normalize(embedding, dim=1), normalize(clean, dim=1), strict=True):
        distances = [(c - p).norm().item() for p in normalize(prototypes, dim=1)]
        near, far = distances.index(min(distances)), distances.index(max(distances))
        away, toward = ((x - normalize(prototypes[k], dim=0)).norm().item() for k in (near, far))
        gains.append(away - toward if margin is None else -max(0, toward - away + margin))
    assert value == pytest.approx(sum(gains) / 4)


def test_universal_budget_too_small_for_one_update_is_refused(victim):
    attack = build_attack("uap[evaluations=10,batch=12]")
    with pytest.raises(BadInput, match="less than one update"):
        attack.fit(victim, make_training(victim), THREAT, torch.Generator(), quiet=True)


def test_an_objective_without_gradient_fails_loudly(victim):
    from vbench.attacks.updates import learn_delta

    with pytest.raises(VbenchError, match="no gradient"):
        learn_delta(
            (3, 16, 8),
            lambda delta: (delta * 0).sum(),
            THREAT,
            torch.Generator().manual_seed(0),
            3,
            0.01,
            0.9,
            torch.zeros(1, dtype=torch.float64),
            "test",
            True,
        )


def test_odfa_and_the_metric_attack_climb_the_same_hill_from_different_starts(victim, images):
    """On unit-length embeddings their gradients agree, so equal rows in a table would be one attack twice."""
    context = make_context(victim, images, I)
    odfa, metric = (craft(f"{name}[preset=paper]", victim, images) for name in ("odfa", "metric_ifgsm"))
    assert not torch.equal(odfa, metric)

    def gradient(target, sign):
        x = (images + context.uniform(images, 0.5)).requires_grad_(True)
        value = sign * squared_distance(victim(x, I).embedding, target, "cosine").sum()
        return torch.autograd.grad(value, x)[0]

    assert torch.allclose(gradient(-context.clean, -1), gradient(context.clean, 1), atol=1e-9)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_distances_of_an_attack_order_the_gallery_as_the_ranking_does(similarity):
    generator = torch.Generator().manual_seed(8)
    query, gallery = (torch.randn(n, 6, dtype=torch.float64, generator=generator) for n in (7, 9))
    ranked = ranking_distance(query, gallery, similarity).argsort(1)
    assert torch.equal(pairwise_squared(query, gallery, similarity).argsort(1), ranked)
    rows = [[squared_distance(q[None], g[None], similarity) for g in gallery] for q in query]
    torch.testing.assert_close(torch.tensor(rows).double(), pairwise_squared(query, gallery, similarity))
