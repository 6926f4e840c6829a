"""The list-wise universal attack: its average precision, its total variation, and what it lowers."""

from __future__ import annotations

import pytest
import torch
from tiny import first_identity, make_training

from vbench.attacks.build import build_attack
from vbench.attacks.muap import list_distances, soft_average_precision, total_variation
from vbench.core.errors import BadInput
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.run.craft import Meter

THREAT = ThreatModel("8/255")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fit(spec, victim, training):
    return build_attack(spec).fit(victim, training, THREAT, seeded(), quiet=True)


def some_lists(count=5, length=30, seed=4):
    distances = torch.rand(count, length, generator=seeded(seed), dtype=torch.float64) * 2
    matches = torch.rand(count, length, generator=seeded(seed + 1)) < 0.25
    matches[:, 0] = True
    return distances, matches


def test_soft_average_precision_is_the_sum_over_bins_written_out():
    distances, matches = some_lists()
    found = soft_average_precision(distances, matches, 5, (0.0, 2.0))
    for row, hit, value in zip(distances.tolist(), matches.tolist(), found.tolist(), strict=True):
        right_so_far = all_so_far = total = 0.0
        for centre in (0.0, 0.5, 1.0, 1.5, 2.0):
            shares = [max(0.0, 1 - abs(d - centre) / 0.5) for d in row]
            right = sum(share for share, yes in zip(shares, hit, strict=True) if yes)
            right_so_far += right
            all_so_far += sum(shares)
            if all_so_far:
                total += right_so_far / all_so_far * right / sum(hit)
        assert value == pytest.approx(total, abs=1e-12)


def test_with_many_bins_it_is_the_average_precision():
    generator = seeded(3)
    # One distance a bin centre: no bin is shared, and the histogram loses nothing.
    distances = torch.stack([torch.randperm(40, generator=generator) for _ in range(6)]).double() / 39
    matches = some_lists(6, 40)[1]
    found = soft_average_precision(distances, matches, 40)
    for row, hit, value in zip(distances, matches, found, strict=True):
        ordered = hit[row.argsort()].double()
        ranks = torch.arange(1, 41, dtype=torch.float64)
        precision = (ordered.cumsum(0) / ranks * ordered).sum() / ordered.sum()
        assert value.item() == pytest.approx(precision.item(), abs=1e-9)


def test_perfect_and_matchless_lists():
    distances = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.5, 1.0, 2.0]], dtype=torch.float64)
    matches = torch.tensor([[True, True, False, False], [False] * 4])
    assert soft_average_precision(distances, matches, 5, (0.0, 2.0)).tolist() == [1.0, 0.0]


def test_lists_do_not_depend_on_each_other_with_fixed_limits():
    distances, matches = some_lists()
    whole = soft_average_precision(distances, matches, 5, (0.0, 2.0))
    alone = [
        soft_average_precision(distances[i : i + 1], matches[i : i + 1], 5, (0.0, 2.0)) for i in range(5)
    ]
    assert torch.allclose(whole, torch.cat(alone), atol=1e-12)


def test_a_match_that_moves_away_lowers_it():
    distances, matches = some_lists()
    distances.requires_grad_(True)
    precision = soft_average_precision(distances, matches, 5, (0.0, 2.0)).sum()
    (gradient,) = torch.autograd.grad(precision, distances)
    assert torch.isfinite(gradient).all()
    assert gradient[matches].sum() < 0 < gradient[~matches].sum()


def test_total_variation_written_out(images):
    total = 0.0
    deviations = (0.229, 0.224, 0.225)
    count, _, height, width = images.shape
    for image in images:
        for channel, deviation in zip(image, deviations, strict=True):
            scaled = channel / deviation
            down = sum(((scaled[r + 1] - scaled[r]) ** 2).sum() for r in range(height - 1))
            across = sum(((scaled[:, c + 1] - scaled[:, c]) ** 2).sum() for c in range(width - 1))
            total += 2 * (down / ((height - 1) * width) + across / (height * (width - 1)))
    assert total_variation(images).item() == pytest.approx(float(total) / count)


def precision_of(victim, training, delta):
    found = []
    for modality in Modality:
        view, others = training[modality], training[modality.other]
        with torch.no_grad():
            embedding = victim((view.images.double() / 255 + delta).clamp(0, 1), modality).embedding
        distances = list_distances(embedding, others.embeddings, victim.similarity)
        matches = view.labels[:, None] == others.labels[None]
        found.append(soft_average_precision(distances, matches, 5, (0.0, 2.0)).mean())
    return torch.stack(found).mean().item()


def test_lowers_the_average_precision_more_than_noise(victim):
    training = make_training(victim)
    learnt = fit("muap[evaluations=1200,batch=12]", victim, training)
    noise = (torch.rand(3, 16, 8, generator=seeded(9), dtype=torch.float64) - 0.5).sign() * 8 / 255
    before, floor = precision_of(victim, training, learnt.delta * 0), precision_of(victim, training, noise)
    # On images without smooth surfaces the total variation alone would decide the signs.
    bare = fit("muap[evaluations=1200,batch=12,smooth=0]", victim, training)
    assert precision_of(victim, training, bare.delta) < min(before, floor)
    assert bare.fit_log["soft_map"] < before


def test_a_fit_whose_ranking_hardly_suffers_says_so(victim):
    training = make_training(victim)
    (warning,) = fit("muap[evaluations=600,batch=12,smooth=1000]", victim, training).fit_log["warnings"]
    assert warning.startswith(
        "muap: the total variation (smooth=1000) outweighs the ranking loss: its soft mAP"
    )
    assert "warnings" not in fit("muap[evaluations=600,batch=12,smooth=0]", victim, training).fit_log


def test_total_variation_smooths_the_perturbed_images(victim):
    training = make_training(victim)
    values = []
    for smooth in (0, 10):
        delta = fit(f"muap[evaluations=600,batch=12,smooth={smooth}]", victim, training).delta
        shown = (training[Modality.VISIBLE].images.double() / 255 + delta).clamp(0, 1)
        values.append(total_variation(shown).item())
    assert values[1] < values[0]


def test_both_modalities_in_every_update_within_the_budget(victim):
    seen = []
    for name, stem in victim.stems.items():
        stem.register_forward_pre_hook(lambda module, inputs, name=name: seen.append((name, len(inputs[0]))))
    training = make_training(victim)
    seen.clear()
    with Meter(victim) as meter:
        fit("muap[evaluations=50,batch=12]", victim, training)
    assert seen == [("visible", 6), ("infrared", 6)] * 4
    assert meter.evaluations == 48
    assert meter.forwards == 0


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_every_similarity_of_a_victim_is_served(similarity, victim):
    victim.similarity = similarity
    training = make_training(victim)
    learnt = fit("muap[evaluations=600,batch=12,smooth=0]", victim, training)
    assert learnt.delta.abs().max() == pytest.approx(8 / 255)
    assert 0 < learnt.fit_log["soft_map"] < 1


def test_refusals(victim):
    training = make_training(victim)
    with pytest.raises(BadInput, match="less than one update"):
        fit("muap[evaluations=10,batch=12]", victim, training)
    with pytest.raises(BadInput, match="bins"):
        build_attack("muap[bins=1]")
    with pytest.raises(BadInput, match="two training identities"):
        fit("muap[evaluations=50,batch=12]", victim, first_identity(training))
