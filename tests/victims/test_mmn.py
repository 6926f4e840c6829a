"""MMN: the generated modality, the seven rankings, the objective."""

from __future__ import annotations

import json

import pytest
import torch
import two_stream_oracle as oracle
from released_agw import released_layout, save_released
from victim_checks import check_gradient, check_refused, check_told_apart, hardest_triplet, misfits, untrained

from vbench.core.types import Modality
from vbench.metrics.ranking import ranking_distance
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.load import build_victim, load_victim
from vbench.victims.losses import DistributionConsistency
from vbench.victims.mmn import MMN
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
SMALL = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (64, 32), "device": "cpu"}
CHANNELS, CLASSES = 128, 6


def draw(*shape, seed, low=0.0, high=1.0):
    return torch.empty(shape).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


def released_mmn(classes=CLASSES):
    """What the authors' network stores: a trunk as AGW's, four necks and classifiers, the generator."""
    state = released_layout(classes, width=4, blocks=(1, 1, 1, 1))
    for name in state:
        # Large enough for the images to show beside the shifts of the normalisations.
        if state[name].ndim == 4:
            state[name] = 3 * state[name]
    for name in [n for n in state if n.startswith(("NL_", "bottleneck.", "classifier."))]:
        del state[name]
    shapes = {"decode.weight": (3, 1, 1, 1), "decode.bias": (3,)}
    for number in (1, 2, 3, 4):
        shapes[f"classifier{number}.weight"] = (classes, CHANNELS)
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"bottleneck{number}.{part}"] = (CHANNELS,)
        state[f"bottleneck{number}.num_batches_tracked"] = torch.tensor(5)
    for number in (1, 2):
        shapes |= {f"encode{number}.weight": (1, 3, 1, 1), f"encode{number}.bias": (1,)}
        shapes |= {f"fc{number}.weight": (1, 1, 1, 1), f"fc{number}.bias": (1,)}
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"bn{number}.{part}"] = (1,)
        state[f"bn{number}.num_batches_tracked"] = torch.tensor(5)
    for seed, (name, shape) in enumerate(shapes.items(), start=200):
        positive = name.endswith("running_var") or len(shape) == 4
        state[name] = draw(*shape, seed=seed, low=0.2 if positive else -0.4, high=1.2 if positive else 0.4)
    return state


@pytest.fixture(scope="module")
def state():
    return released_mmn()


def generated(state, prepared, modality):
    """The middle modality pixel by pixel: every 1x1 convolution a weighted sum of channels."""
    number = 1 if modality is Modality.VISIBLE else 2

    def weighted(name, channels):
        kernel, bias = state[f"{name}.weight"][:, :, 0, 0], state[f"{name}.bias"]
        sums = [
            sum(weight * channels[:, c] for c, weight in enumerate(row)) + shift
            for row, shift in zip(kernel, bias, strict=True)
        ]
        return torch.stack(sums, dim=1).clamp(min=0)

    grey = weighted(f"fc{number}", weighted(f"encode{number}", prepared))
    return weighted("decode", oracle.batch_norm(state, f"bn{number}", grey))


def stem_of_both(state, images, modality):
    prepared = oracle.normalised(images)
    return oracle.stem(state, torch.cat((prepared, generated(state, prepared, modality))), modality)


def stripes_of(state, last):
    """Four averages from top to bottom, and the same after their own necks."""
    rows = last.shape[2] // 4
    pooled = [last[:, :, rows * i : rows * (i + 1)].mean(dim=(2, 3)) for i in range(4)]
    return pooled, [
        oracle.batch_norm(state, f"bottleneck{i + 1}", vectors) for i, vectors in enumerate(pooled)
    ]


def vectors_of(state, images, modality):
    """The four vectors of unit length that the authors' network gives, and the image's mean logits."""
    last = oracle.shared_maps(state, stem_of_both(state, images, modality))["layer4"]
    pooled, necks = stripes_of(state, last)
    count = len(images)
    pool, bn = oracle.unit(torch.cat(pooled, dim=1)), oracle.unit(torch.cat(necks, dim=1))
    logits = sum(neck @ state[f"classifier{i + 1}.weight"].T for i, neck in enumerate(necks)) / 4
    named = {
        "image": bn[:count],
        "middle": bn[count:],
        "pooled": pool[:count],
        "middle_pooled": pool[count:],
    }
    return named, logits[:count]


@pytest.mark.parametrize("modality", BOTH)
def test_all_vectors_equal_the_network_written_out(state, path, modality):
    images = draw(3, 3, 64, 32, seed=1)
    expected, logits = vectors_of(state, images, modality)
    output = build_victim(MMN, path, **SMALL)(images, modality)
    assert set(output.parts) == set(expected)
    for name, wanted in expected.items():
        torch.testing.assert_close(output.parts[name], wanted, rtol=1e-4, atol=1e-6)
        chosen = build_victim(MMN, path, **SMALL, embedding=name)
        assert torch.equal(chosen(images, modality).embedding, output.parts[name])
        assert chosen.similarity == "cosine"
    torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-5)
    assert (expected["image"] - expected["middle"]).norm(dim=1).min() > 0.05


def test_every_fused_ranking_is_that_of_four_similarities(state, path):
    visible, infrared = draw(4, 3, 64, 32, seed=2), draw(3, 3, 64, 32, seed=3)
    gallery, query = vectors_of(state, visible, BOTH[0])[0], vectors_of(state, infrared, BOTH[1])[0]
    image, image_x, x_image, x_x = (
        query[one] @ gallery[other].T for one in ("image", "middle") for other in ("image", "middle")
    )
    four = torch.stack((image, image_x, x_image, x_x))
    expected = {
        "image": image,
        "visible_middle": image_x,
        "infrared_middle": x_image,
        "middle": x_x,
        "sum": four.sum(dim=0),
        "min": four.amin(dim=0),
        "max": four.amax(dim=0),
    }
    seen = []
    for setting, wanted in expected.items():
        victim = build_victim(MMN, path, **SMALL, embedding=setting)
        embeddings = [victim(x, m).embedding for x, m in ((infrared, BOTH[1]), (visible, BOTH[0]))]
        assert {e.shape[1] for e in embeddings} == {victim.embedding_dim}
        seen.append(-ranking_distance(*embeddings, victim.similarity))
        torch.testing.assert_close(seen[-1], wanted, rtol=1e-4, atol=1e-5)
    assert len({tuple(matrix.flatten().tolist()) for matrix in seen}) == 7


def test_each_modality_has_its_own_encoder_and_both_share_the_decoder(state, path, tmp_path):
    images = draw(2, 3, 64, 32, seed=4)

    def middle_of(changed):
        victim = build_victim(MMN, save_released(tmp_path / "mmn.t", {**state, **changed}), **SMALL)
        return [victim(images, modality).parts["middle"] for modality in BOTH]

    plain = middle_of({})
    for name, moved in (
        ("encode1.weight", [0]),
        ("fc2.bias", [1]),
        ("bn1.bias", [0]),
        ("decode.bias", [0, 1]),
    ):
        changed = middle_of({name: state[name] + 0.5})
        assert [i for i in (0, 1) if not torch.equal(plain[i], changed[i])] == moved, name


@misfits(
    (lambda s: [s.pop(n) for n in list(s) if n.startswith("bn1.")], r"missing \(4\): bn1"),
    (lambda s: s.pop("classifier1.weight"), "no identity classifier 'classifier1.weight'"),
    missing=["fc2.bias", "bottleneck3.running_mean"],
    unexpected=["encode3.weight"],
    misshaped=["classifier2.weight"],
)
def test_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(MMN, state, change, message, tmp_path / "mmn.t", **SMALL)


def test_files_of_other_models_are_told_apart(path, tmp_path):
    check_told_apart(MMN, "an", path, tmp_path, **SMALL)


@pytest.mark.parametrize("stage", MMN.stages)
def test_edits_see_both_versions_and_row_i_belongs_to_image_i(path, stage):
    victim = build_victim(MMN, path, **SMALL)
    images = draw(3, 3, 64, 32, seed=5)
    plain = victim(images, BOTH[1])
    half = plain.features[stage].shape[1] // 2
    for versions, name, other in (
        (slice(None, half), "image", "middle"),
        (slice(half, None), "middle", "image"),
    ):

        def spoil(features, versions=versions):
            changed = features.clone()
            changed[1, versions] *= torch.linspace(0, 1, half).view(-1, 1, 1)
            return changed

        edited = victim(images, BOTH[1], {stage: spoil})
        assert torch.equal(edited.features[stage], spoil(plain.features[stage]))
        assert torch.equal(edited.parts[other], plain.parts[other])
        moved = (edited.parts[name] - plain.parts[name]).norm(dim=1)
        assert moved[1] > 1e-5 and moved[0] < 1e-6 and moved[2] < 1e-6


@pytest.mark.parametrize(("modality", "embedding"), [(BOTH[0], "sum"), (BOTH[1], "max"), (BOTH[1], "image")])
def test_gradient_reaches_the_image(path, modality, embedding):
    victim = build_victim(MMN, path, **SMALL, embedding=embedding, flip=True).double()
    direction = draw(victim.embedding_dim, seed=7, low=-1).double()

    image, step = draw(1, 3, 64, 32, seed=6).double(), draw(1, 3, 64, 32, seed=8, low=-1).double()
    check_gradient(victim, modality, image, direction, step)


def make_batch(smoothing=0.0):
    return TrainBatch(
        draw(6, 3, 64, 32, seed=9),
        draw(6, 3, 64, 32, seed=10),
        torch.tensor([4, 4, 1, 1, 3, 3]),
        torch.Generator().manual_seed(11),
        instances=2,
        label_smoothing=smoothing,
    )


def consistency(projector, visible, infrared):
    """Distances after the projection, batch statistics written out."""

    def unit(rows):
        return torch.stack([row / row.norm() for row in rows])

    def standard(rows):
        return (rows - rows.mean(dim=0)) / torch.sqrt(rows.var(dim=0, unbiased=False) + 1e-5)

    rows = standard(unit(torch.cat((visible, infrared))) @ projector.first.T).clamp(min=0)
    rows = unit(standard(rows @ projector.second.T + projector.shift))
    count = len(visible)
    return sum((rows[i] - rows[count + i]).norm() for i in range(count)) / count


def test_losses_equal_the_objective_written_out(state, path):
    victim = build_victim(MMN, path, **SMALL)
    batch = make_batch(smoothing=0.1)
    losses = victim.training_losses(batch)
    stems = [stem_of_both(state, x, m) for x, m in zip((batch.visible, batch.infrared), BOTH, strict=True)]
    pooled, necks = stripes_of(state, oracle.shared_maps(state, torch.cat(stems))["layer4"])
    labels = batch.labels.tolist()
    identity = triplet = distance = 0.0
    for number, (vectors, neck) in enumerate(zip(pooled, necks, strict=True), start=1):
        logits = neck @ state[f"classifier{number}.weight"].T
        identity += oracle.cross_entropy(logits, batch.labels.repeat(4), 0.1) / 4
        visible, visible_x, infrared, infrared_x = vectors.split(6)
        for one in (visible, visible_x):
            for other in (infrared, infrared_x):
                triplet += hardest_triplet(torch.cat((one, other)), labels + labels) / 16
        distance += consistency(victim.consistency, visible_x, infrared_x) / 4
    expected = {"identity": identity, "triplet": triplet, "consistency": 0.2 * distance}
    assert set(losses) == set(expected)
    for name, wanted in expected.items():
        assert losses[name].item() == pytest.approx(float(wanted), rel=1e-4), name
        assert losses[name].item() > 1e-3


def test_consistency_loss_has_the_gradient_of_its_formula():
    loss = DistributionConsistency(5).double()
    visible, infrared = (draw(4, 5, seed=s, low=-1).double().requires_grad_() for s in (12, 13))
    assert torch.autograd.gradcheck(loss, (visible, infrared))
    # Two views that agree have nothing to learn, and no slope that is not a number.
    same = visible.detach().clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(visible.detach(), same), same)
    assert slope.abs().max() < 1e-9


def test_projection_is_fixed_and_no_part_of_what_is_stored(path):
    first = MMN(num_classes=2, width=0.0625, blocks=(1, 1, 1, 1), input_size=(64, 32))
    other = build_victim(MMN, path, **SMALL, generator=torch.Generator().manual_seed(9))
    assert not [name for name in first.state_dict() if "consistency" in name]
    assert not list(first.consistency.parameters())
    for name, tensor in first.consistency.named_buffers():
        assert torch.equal(tensor, other.consistency.get_buffer(name))
        assert 0.9 < float(tensor.std() * tensor.shape[-1] ** 0.5 * 3**0.5) < 1.1, name


def test_training_reaches_every_parameter_and_starts_as_an_average():
    victim = MMN(num_classes=6, width=0.0625, blocks=(1, 1, 1, 1), input_size=(64, 32)).train()
    assert torch.equal(victim.middle.visible.mix.weight, torch.full((1, 3, 1, 1), 0.333))
    assert not victim.middle.decoder.bias.any()
    assert untrained(victim, make_batch()) == []
    assert all(neck.bias.grad is None for neck in victim.necks)


def test_description_and_own_file_rebuild_the_victim(tmp_path, path):
    victim = build_victim(MMN, path, **SMALL, embedding="min", flip=True)
    assert (victim.num_classes, victim.similarity) == (CLASSES, "dot-min")
    assert MMN(**json.loads(json.dumps(victim.describe()))).describe() == victim.describe()
    own = tmp_path / "own.safetensors"
    write_checkpoint(own, victim.state_dict(), {"victim": "mmn", "options": victim.describe()})
    again = load_victim("mmn", own, device="cpu")
    images = draw(2, 3, 64, 32, seed=14)
    assert (again.describe(), again.similarity) == (victim.describe(), "dot-min")
    assert torch.equal(again(images, BOTH[1]).embedding, victim(images, BOTH[1]).embedding)
    assert MMN().embedding == "image" and MMN.flip is False
