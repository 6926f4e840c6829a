"""Deep mis-ranking: its loss, its generator, and a change that depends on the image alone."""

from __future__ import annotations

import pytest
import torch
from tiny import TinyVictim, first_identity, make_training

from vbench.attacks.build import build_attack
from vbench.attacks.distances import squared_distance
from vbench.attacks.mis_ranking import mis_classification_loss, mis_ranking_loss
from vbench.attacks.perturbation import Perturbation, PerturbationGenerator, generator_from, new_generator
from vbench.core.errors import BadInput, VbenchError
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality
from vbench.run.craft import Meter

THREAT = ThreatModel("8/255")
QUICK = "batch=12,width=4,blocks=1"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fit(spec, victim, training=None, threat=THREAT):
    training = training or make_training(victim)
    return build_attack(spec).fit(victim, training, threat, seeded(), quiet=True)


@pytest.fixture(scope="module")
def learnt():
    return fit(f"mis_ranking[evaluations=720,rate=3e-3,{QUICK}]", TinyVictim().double().eval())


@pytest.mark.parametrize("distance", ["squared", "euclidean"])
@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_loss_written_out(similarity, distance):
    queries, listed = (torch.randn(n, 6, generator=seeded(n), dtype=torch.float64) for n in (5, 12))
    own, shown = torch.tensor([0, 1, 2, 3, 0]), torch.arange(12) % 4
    matches = own[:, None] == shown[None, :]
    found = mis_ranking_loss(queries, listed, matches, 0.3, similarity, distance)
    for query, label, value in zip(queries, own.tolist(), found.tolist(), strict=True):
        rows = [squared_distance(query[None], entry[None], similarity).item() for entry in listed]
        if distance == "euclidean" and not similarity.startswith("dot"):
            rows = [row**0.5 for row in rows]
        far = max(d for d, k in zip(rows, shown.tolist(), strict=True) if k != label)
        near = min(d for d, k in zip(rows, shown.tolist(), strict=True) if k == label)
        assert value == pytest.approx(max(0.0, far - near + 0.3), abs=1e-9)


def test_mis_classification_loss_written_out():
    logits, identities = torch.randn(3, 6, generator=seeded(), dtype=torch.float64), torch.tensor([1, 4])
    found = mis_classification_loss(logits, identities).item()
    total = 0.0
    for row in logits:
        for k, share in enumerate(row.log_softmax(0).tolist()):
            smooth = 0.0 if k in (1, 4) else 0.1 / 5
            total -= share * (smooth + 0.9 * (k == int(row.argmin())))
    assert found == pytest.approx(total / 3)


def test_both_losses_and_their_logarithms_are_what_dmr_lowers(victim):
    plain, paper = (
        fit(f"mis_ranking[evaluations=240,{QUICK}{more}]", victim) for more in ("", ",preset=paper")
    )
    assert plain.digest != paper.digest
    victim.num_classes = 0
    with pytest.raises(BadInput, match="needs an identity classifier"):
        fit(f"mis_ranking[evaluations=240,{QUICK},classes=true]", victim)


def mean_loss(victim, training, change):
    total = 0.0
    for modality in Modality:
        view, others = training[modality], training[modality.other]
        images = view.images.double() / 255
        with torch.no_grad():
            embedding = victim(change(images), modality).embedding
        matches = view.labels[:, None] == others.labels[None, :]
        loss = mis_ranking_loss(embedding, others.embeddings, matches, 5.0, victim.similarity)
        total += loss.mean().item()
    return total


def test_lowers_the_mis_ranking_loss_more_than_noise(victim, learnt):
    training = make_training(victim)
    noise = (torch.rand(3, 16, 8, generator=seeded(9), dtype=torch.float64) - 0.5).sign() * 8 / 255
    after = mean_loss(victim, training, learnt.apply)
    untrained = new_generator(4, 1, 8 / 255, seeded()).double()
    assert after < mean_loss(victim, training, lambda x: x)
    assert after < mean_loss(victim, training, lambda x: (x + noise).clamp(0, 1))
    assert after < mean_loss(victim, training, lambda x: (x + untrained(x)).clamp(0, 1))
    assert learnt.fit_log["last_loss"] < learnt.fit_log["first_loss"]


def test_the_change_depends_on_the_image_and_keeps_the_budget(images, learnt):
    changes = learnt.apply(images) - images
    assert not torch.allclose(changes[0], changes[1], atol=1 / 255)
    assert 4 / 255 < changes.abs().max() <= 8 / 255 + 1e-12
    shown = THREAT.enforce(images, learnt.apply(images))
    THREAT.check(images, shown)


def test_neither_batch_size_nor_order_matters(images, learnt):
    whole = learnt.apply(images)
    assert torch.allclose(torch.cat([learnt.apply(image[None]) for image in images]), whole, atol=1e-12)
    assert torch.allclose(learnt.apply(images.flip(0)).flip(0), whole, atol=1e-12)


def test_a_generator_survives_its_file(tmp_path, images, learnt):
    learnt.save(tmp_path / "g.safetensors")
    again = Perturbation.load(tmp_path / "g.safetensors")
    assert again.digest == learnt.digest
    assert torch.equal(again.apply(images), learnt.apply(images))
    assert again.modules["generator.bound"].item() == pytest.approx(8 / 255)


def test_weights_that_fit_no_generator_are_refused(images, learnt):
    weights = {name.removeprefix("generator."): value for name, value in learnt.modules.items()}
    missing = {name: value for name, value in weights.items() if name != "end.1.bias"}
    with pytest.raises(BadInput, match="names or shapes"):
        generator_from(missing)
    with pytest.raises(BadInput, match="no first layer"):
        generator_from({"end.1.bias": weights["end.1.bias"]})
    broken = Perturbation(learnt.delta, {"generator.bound": torch.zeros(())})
    with pytest.raises(BadInput, match="no first layer"):
        broken.apply(images)


@pytest.mark.parametrize("size", [(16, 8), (17, 10), (30, 13)])
def test_a_generator_keeps_size_and_bound_at_any_size(size):
    state = torch.random.get_rng_state()
    network = new_generator(3, 2, 0.1, seeded())
    assert torch.equal(state, torch.random.get_rng_state())
    images = torch.rand(2, 3, *size, generator=seeded(1))
    change = network(images)
    assert change.shape == images.shape
    assert 0.01 < change.abs().max() <= 0.1
    assert torch.equal(generator_from(network.state_dict())(images), change)


def test_default_generator_has_the_published_shape():
    with torch.device("meta"):
        network = PerturbationGenerator(32, 6)
    convolutions = [p.shape for p in network.parameters() if p.ndim == 4]
    assert [tuple(shape[:2]) for shape in convolutions[:3]] == [(32, 3), (64, 32), (128, 64)]
    assert len(convolutions) == 3 + 2 * 6 + 3
    ends, resizing, middle = 2 * 3 * 32 * 49 + 3, 2 * 9 * (32 * 64 + 64 * 128), 6 * 2 * 9 * 128 * 128
    expected = ends + resizing + middle
    assert sum(p.numel() for p in network.parameters()) == expected


def test_both_modalities_within_the_budget_of_evaluations(victim):
    seen = []
    training = make_training(victim)
    for name, stem in victim.stems.items():
        stem.register_forward_pre_hook(lambda module, inputs, name=name: seen.append((name, len(inputs[0]))))
    with Meter(victim) as meter:
        found = fit(f"mis_ranking[evaluations=50,{QUICK}]", victim, training)
    assert seen == [("visible", 6), ("infrared", 6)] * 4
    assert (meter.evaluations, meter.forwards) == (48, 0)
    assert found.fit_log["updates"] == 4


def test_an_unquantised_budget_is_the_generators_bound(victim):
    found = fit(f"mis_ranking[evaluations=24,{QUICK}]", victim, threat=ThreatModel(0.01, quantize=False))
    assert found.modules["generator.bound"].item() == pytest.approx(0.01)


def test_refusals(victim):
    training = make_training(victim)
    with pytest.raises(BadInput, match="less than one update"):
        fit("mis_ranking[evaluations=10,batch=12]", victim)
    with pytest.raises(BadInput, match="two training identities"):
        fit(f"mis_ranking[evaluations=50,{QUICK}]", victim, first_identity(training))


def test_images_of_another_size_are_refused_until_it_is_resized(learnt):
    larger = torch.rand(2, 3, 24, 12, dtype=torch.float64, generator=seeded(2))
    with pytest.raises(BadInput, match="perturbation is for images of"):
        learnt.apply(larger)
    resized = learnt.resized((24, 12), THREAT)
    assert 4 / 255 < (resized.apply(larger) - larger).abs().max() <= 8 / 255 + 1e-12
    assert "generator unchanged" in resized.provenance["resized"]


class Collapsed(TinyVictim):
    """Embeds every image to one point, so that nothing can be ranked."""

    def forward(self, images, modality, edits=None):
        output = super().forward(images, modality, edits)
        output.embedding = torch.ones_like(output.embedding) + 0 * output.embedding
        return output


def test_a_loss_without_gradient_fails_loudly():
    victim = Collapsed().double().eval()
    with pytest.raises(VbenchError, match="no gradient"):
        fit(f"mis_ranking[evaluations=24,{QUICK}]", victim)
