"""DEEN: aggregation blocks, three versions of a map, fused rankings, objective, both variants."""

from __future__ import annotations

import functools
import math

import pytest
import torch
import torch.nn.functional as F
import two_stream_oracle as oracle
from released_agw import released_layout, save_released
from victim_checks import check_gradient, check_refused, check_told_apart, hardest_triplet, misfits, untrained

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.metrics.ranking import ranking_distance
from vbench.victims.deen import DEEN
from vbench.victims.load import build_victim
from vbench.victims.losses import center_pair_mining, orthogonality
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
SMALL = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (64, 16), "device": "cpu"}
CLASSES = 6
CHANNELS = {"stem": 4, "layer1": 16, "layer2": 32, "layer3": 64, "layer4": 128}
BLOCKS = {"sysu": 3, "regdb": 2}
NAMES = [f"{kind}_{version}" for kind in ("pooled", "neck") for version in ("original", "first", "second")]


def draw(*shape, seed, low=0.0, high=1.0):
    return torch.empty(shape).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


@functools.cache
def released_deen(variant, classes=CLASSES):
    """What the authors' network stores: a trunk as AGW's (layer4 in both variants) and their own blocks."""
    base = released_layout(classes, width=4, blocks=(1, 1, 1, 1))
    state = {name: tensor for name, tensor in base.items() if not name.startswith("NL_")}
    stages = list(CHANNELS)
    shapes = {}
    for number in range(1, BLOCKS[variant] + 1):
        low, high = CHANNELS[stages[number - 1]], CHANNELS[stages[number]]
        for block, inner in (("CNL", low), ("PNL", low // 2)):
            name = f"MFA{number}.{block}"
            for layer, out, taken in (("g", inner, low), ("theta", inner, high), ("phi", inner, low)):
                shapes |= {f"{name}.{layer}.weight": (out, taken, 1, 1), f"{name}.{layer}.bias": (out,)}
            shapes |= {f"{name}.W.0.weight": (high, inner, 1, 1), f"{name}.W.0.bias": (high,)}
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{name}.W.1.{part}"] = (high,)
            state[f"{name}.W.1.num_batches_tracked"] = torch.tensor(5)
    wide, dim = CHANNELS[stages[BLOCKS[variant]]], CHANNELS[stages[BLOCKS[variant] + 1]]
    for branch in (1, 2):
        shapes |= {f"DEE.FC{branch}{index}.weight": (wide // 4, wide, 3, 3) for index in (1, 2, 3)}
        shapes |= {f"DEE.FC{branch}.weight": (wide, wide // 4, 1, 1), f"DEE.FC{branch}.bias": (wide,)}
    shapes["classifier.weight"] = (classes, dim)
    for part in ("weight", "bias", "running_mean", "running_var"):
        shapes[f"bottleneck.{part}"] = (dim,)
    for seed, (name, shape) in enumerate(shapes.items(), start=300):
        if len(shape) > 1:
            bound = (0.7 if name.startswith("MFA") else 2) / math.prod(shape[1:]) ** 0.5
            state[name] = draw(*shape, seed=seed, low=-bound, high=bound)
        else:
            low, high = (0.5, 1.5) if name.endswith("running_var") else (-0.4, 0.4)
            state[name] = draw(*shape, seed=seed, low=low, high=high)
    return settled(state, variant)


def settled(state, variant):
    """With running statistics near those of random images: attention cubes what explodes or vanishes."""
    plain = oracle.batch_norm

    def measuring(state, name, x):
        dims = [0, *range(2, x.ndim)]
        spread = state[f"{name}.running_var"]
        state[f"{name}.running_mean"] = x.mean(dims)
        state[f"{name}.running_var"] = x.var(dims) * spread + 1e-3
        return plain(state, name, x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(oracle, "batch_norm", measuring)
        stems = [
            oracle.stem(state, oracle.normalised(draw(3, 3, 64, 16, seed=90 + i)), modality)
            for i, modality in enumerate(BOTH)
        ]
        pooled = last_map(state, variant, torch.cat(stems)).mean(dim=(2, 3))
        measuring(state, "bottleneck", pooled)
    return state


@pytest.fixture(scope="module", params=list(BLOCKS))
def variant(request):
    return request.param


@pytest.fixture(scope="module")
def state(variant):
    return released_deen(variant)


@pytest.fixture(scope="module")
def sysu(tmp_path_factory):
    return save_released(tmp_path_factory.mktemp("sysu") / "deen.t", released_deen("sysu"))


def convolved(state, name, x, stride=1):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], stride=stride)


def channel_attention(state, name, high, low, stride):
    """Image by image, channel by channel; projected at the full size of ``low``, then strided."""
    g, theta = convolved(state, f"{name}.g", low), convolved(state, f"{name}.theta", high)
    phi = convolved(state, f"{name}.phi", low, stride)
    count = low.shape[1]
    y = torch.zeros_like(g)
    for i in range(len(high)):
        for one in range(count):
            for other in range(count):
                y[i, one] += (theta[i, one] * phi[i, other]).sum() / count * g[i, other]
    projected = convolved(state, f"{name}.W.0", y, stride)
    return oracle.batch_norm(state, f"{name}.W.1", projected) + high


def position_attention(state, name, high, low):
    """Position by position, each two places of a map half its positions apart."""
    g, theta, phi = (
        convolved(state, f"{name}.{layer}", source).flatten(2)
        for layer, source in (("g", low), ("theta", high), ("phi", low))
    )
    there, here = g.shape[2] // 2, theta.shape[2] // 2
    y = torch.zeros_like(theta)
    for i in range(len(high)):
        for p in range(here):
            for q in range(there):
                score = (
                    sum((theta[i, :, p + k * here] * phi[i, :, q + k * there]).sum() for k in (0, 1)) / there
                )
                for k in (0, 1):
                    y[i, :, p + k * here] += score * g[i, :, q + k * there]
    projected = convolved(state, f"{name}.W.0", y.view(len(high), -1, *high.shape[2:]))
    return oracle.batch_norm(state, f"{name}.W.1", projected) + high


def expanded(state, x):
    versions = [x]
    for branch in (1, 2):
        total = 0
        for size in (1, 2, 3):
            kernel = state[f"DEE.FC{branch}{size}.weight"]
            total = total + F.conv2d(x, kernel, padding=size, dilation=size)
        versions.append(convolved(state, f"DEE.FC{branch}", torch.relu(total / 3)))
    return torch.cat(versions)


def last_map(state, variant, x):
    """From the stems' output to the three versions' last maps."""
    for number in range(1, BLOCKS[variant] + 1):
        stride = 1 if number == 1 else 2
        high = oracle.block(state, f"base_resnet.base.layer{number}.0", x, stride)
        high = channel_attention(state, f"MFA{number}.CNL", high, x, stride)
        x = position_attention(state, f"MFA{number}.PNL", high, x)
    last = BLOCKS[variant] + 1
    stride = oracle.STRIDES[f"layer{last}"]
    return oracle.block(state, f"base_resnet.base.layer{last}.0", expanded(state, x), stride)


def vectors_of(state, variant, images, modality):
    """The six vectors of unit length of every image, and mean logits."""
    first = oracle.stem(state, oracle.normalised(images), modality)
    pooled = last_map(state, variant, first).mean(dim=(2, 3))
    neck = oracle.batch_norm(state, "bottleneck", pooled)
    count = len(images)
    rows = [
        v[i * count : (i + 1) * count] for v in (oracle.unit(pooled), oracle.unit(neck)) for i in range(3)
    ]
    logits = neck @ state["classifier.weight"].T
    return dict(zip(NAMES, rows, strict=True)), sum(logits.split(count)) / 3


@pytest.mark.parametrize("modality", BOTH)
def test_all_vectors_equal_the_network_written_out(state, path, variant, modality):
    images = draw(2, 3, 64, 16, seed=1)
    expected, logits = vectors_of(state, variant, images, modality)
    victim = build_victim(DEEN, path, **SMALL, flip=False)
    output = victim(images, modality)
    assert victim.variant == variant
    assert list(output.parts) == NAMES
    for name, wanted in expected.items():
        torch.testing.assert_close(output.parts[name], wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-5)
    versions = [expected[f"pooled_{version}"] for version in ("original", "first", "second")]
    assert min((versions[i] - versions[j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))) > 1e-2
    mirrored, _ = vectors_of(state, variant, images.flip(3), modality)
    both = build_victim(DEEN, path, **SMALL)(images, modality)
    for name, wanted in expected.items():
        torch.testing.assert_close(both.parts[name], wanted + mirrored[name], rtol=1e-4, atol=1e-6)


def test_fused_rankings_are_weighted_sums_of_six_similarities(sysu):
    visible, infrared = draw(4, 3, 64, 16, seed=2), draw(3, 3, 64, 16, seed=3)
    plain = build_victim(DEEN, sysu, **SMALL)
    query, gallery = plain(infrared, BOTH[1]).parts, plain(visible, BOTH[0]).parts
    six = {name: query[name].double() @ gallery[name].double().T for name in NAMES}
    pooled, neck = (sum(six[name] for name in NAMES if name.startswith(kind)) for kind in ("pooled", "neck"))
    expected = {"sum": pooled + neck, "weighted": 0.1 * pooled + 0.9 * neck, **six}
    for setting, wanted in expected.items():
        victim = build_victim(DEEN, sysu, **SMALL, embedding=setting)
        embeddings = [victim(x, m).embedding for x, m in ((infrared, BOTH[1]), (visible, BOTH[0]))]
        assert {e.shape[1] for e in embeddings} == {victim.embedding_dim}
        found = -ranking_distance(*embeddings, victim.similarity)
        torch.testing.assert_close(found, wanted.float(), rtol=1e-5, atol=1e-6)
    assert plain.embedding == "sum" and plain.embedding_dim == 6 * 128


def test_layer4_is_dead_in_the_small_variant_alone(tmp_path):
    images = draw(2, 3, 64, 16, seed=4)
    for kind in BLOCKS:
        whole = released_deen(kind)
        reference = build_victim(DEEN, save_released(tmp_path / "whole.t", whole), **SMALL)
        without = {n: t for n, t in whole.items() if "base_resnet.base.layer4" not in n}
        path = save_released(tmp_path / "without.t", without)
        extra = {**whole, "base_resnet.base.layer4.3.conv1.weight": torch.zeros(2)}
        strange = save_released(tmp_path / "extra.t", extra)
        if kind == "sysu":
            assert reference.stages == DEEN.stages
            with pytest.raises(BadInput, match=r"missing \(\d+\): base_resnet.base.layer4"):
                build_victim(DEEN, path, **SMALL)
            with pytest.raises(BadInput, match=r"unexpected \(1\): base_resnet.base.layer4.3.conv1.weight"):
                build_victim(DEEN, strange, **SMALL)
        else:
            assert reference.stages == ("stem", "layer1", "layer2", "layer3")
            assert not [name for name in reference.state_dict() if "layer4" in name]
            small = build_victim(DEEN, path, **SMALL)
            assert torch.equal(small(images, BOTH[0]).embedding, reference(images, BOTH[0]).embedding)


@misfits(
    (lambda s: [s.pop(n) for n in list(s) if n.startswith("MFA1.CNL.W")], r"missing \(6\): MFA1.CNL.W.0"),
    missing=["MFA2.PNL.phi.bias", "DEE.FC23.weight"],
    unexpected=["DEE.FC31.weight"],
    misshaped=["DEE.FC1.bias"],
)
def test_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(DEEN, state, change, message, tmp_path / "deen.t", **SMALL)


def test_variant_that_the_file_contradicts_is_refused(sysu):
    with pytest.raises(BadInput, match=r"unexpected \(\d+\): .*MFA3"):
        build_victim(DEEN, sysu, **SMALL, variant="regdb")


def test_files_of_other_models_are_told_apart(path, tmp_path):
    check_told_apart(DEEN, "a", path, tmp_path, **SMALL)


def test_edits_show_at_every_stage_and_row_i_belongs_to_image_i(path):
    victim = build_victim(DEEN, path, **SMALL)
    images = draw(3, 3, 64, 16, seed=5)
    plain = victim(images, BOTH[1])
    scale = torch.tensor([1.0, 0.2, 1.0]).view(3, 1, 1, 1)
    for stage in victim.stages:
        assert torch.equal(victim(images, BOTH[1], {stage: lambda f: f.clone()}).embedding, plain.embedding)

        def spoil(features):
            return features * scale + (1 - scale) * features.flip(2)

        edited = victim(images, BOTH[1], {stage: spoil})
        assert torch.equal(edited.features[stage], spoil(plain.features[stage]))
        moved = (edited.parts["neck_first"] - plain.parts["neck_first"]).norm(dim=1)
        if stage == victim.stages[-1]:
            # The mean of a map turned upside down is the same: here the scale has to show.
            edited = victim(images, BOTH[1], {stage: lambda f: f * scale})
            moved = (edited.parts["neck_first"] - plain.parts["neck_first"]).norm(dim=1)
        assert moved[1] > 1e-5 and moved[0] < 1e-6 and moved[2] < 1e-6, stage


def test_last_stage_shows_the_three_versions_along_the_channels(path):
    victim = build_victim(DEEN, path, **SMALL, flip=False)
    images = draw(2, 3, 64, 16, seed=6)
    plain, last = victim(images, BOTH[0]), victim.stages[-1]
    dim = CHANNELS[last]
    assert plain.features[last].shape[1] == 3 * dim
    for index, version in enumerate(("original", "first", "second")):

        def spoil(features, index=index):
            changed = features.clone()
            changed[:, index * dim : index * dim + dim // 2] *= 0.5
            return changed

        edited = victim(images, BOTH[0], {last: spoil})
        moved = [n for n in NAMES if not torch.equal(edited.parts[n], plain.parts[n])]
        assert moved == [f"pooled_{version}", f"neck_{version}"]


@pytest.mark.parametrize("modality", BOTH)
def test_gradient_reaches_the_image(path, modality):
    victim = build_victim(DEEN, path, **SMALL, embedding="weighted").double()
    direction = draw(victim.embedding_dim, seed=7, low=-1).double()

    image, step = draw(1, 3, 64, 16, seed=9).double(), draw(1, 3, 64, 16, seed=8, low=-1).double()
    check_gradient(victim, modality, image, direction, step)


def make_batch(smoothing=0.0, labels=(4, 4, 1, 1), seed=12):
    return TrainBatch(
        draw(4, 3, 64, 16, seed=10),
        draw(4, 1, 64, 16, seed=11).expand(-1, 3, -1, -1),
        torch.tensor(labels),
        torch.Generator().manual_seed(seed),
        instances=2,
        label_smoothing=smoothing,
    )


def mined_pairs(original, generated, labels):
    """Hinges on the centers of identities, one identity and one modality after the other."""

    def centers(vectors):
        return {
            p: torch.stack([v for v, q in zip(vectors, labels, strict=True) if q == p]).mean(0)
            for p in labels
        }

    old, new = [centers(v) for v in original], [centers(v) for v in generated]
    total = 0.0
    for own, other in ((0, 1), (1, 0)):
        for person in old[own]:
            across = (old[other][person] - new[own][person]).norm()
            within = (old[own][person] - new[own][person]).norm()
            others = [p for p in old[own] if p != person]
            nearest = [min((c[person] - c[p]).norm() for p in others) for c in (new[own], old[own])]
            total += max(0, 0.2 + across - within) + sum(max(0, 0.2 + across - n) for n in nearest) / 2
    return float(total) / 2 / len(old[0])


def test_losses_equal_the_objective_written_out(state, path, variant, monkeypatch):
    # Dropout is left to its own test: its masks are drawn on the device, not on the CPU.
    monkeypatch.setattr("vbench.victims.deen._DROPOUT", 0.0)
    batch = make_batch(smoothing=0.1)
    losses = build_victim(DEEN, path, **SMALL).training_losses(batch)
    greys = torch.rand(4, dtype=torch.float64, generator=torch.Generator().manual_seed(12)) < 0.5
    assert 0 < greys.sum() < 4
    luma = (batch.visible * torch.tensor([0.2989, 0.5870, 0.1140]).view(3, 1, 1)).sum(1, keepdim=True)
    visible = torch.where(greys.view(4, 1, 1, 1), luma, batch.visible)
    stems = [
        oracle.stem(state, oracle.normalised(images), modality)
        for images, modality in ((visible, BOTH[0]), (batch.infrared, BOTH[1]))
    ]
    pooled = last_map(state, variant, torch.cat(stems)).mean(dim=(2, 3))
    logits = oracle.batch_norm(state, "bottleneck", pooled) @ state["classifier.weight"].T
    labels = batch.labels.tolist()
    original, first, second = (version.split(4) for version in pooled.split(8))
    mined = sum(mined_pairs(original, new, labels) for new in (first, second))
    products = sum(float(a @ b) for a, b in zip(torch.cat(first), torch.cat(second), strict=True))
    expected = {
        "identity": float(oracle.cross_entropy(logits, batch.labels.repeat(6), 0.1)),
        "triplet": hardest_triplet(pooled, labels * 6),
        "pair_mining": 0.8 * mined,
        "orthogonality": 0.01 * products / len(pooled),
    }
    assert set(losses) == set(expected)
    for name, wanted in expected.items():
        assert losses[name].item() == pytest.approx(wanted, rel=1e-4), name
        assert wanted > 0


def test_pair_mining_pulls_towards_the_other_modality_with_the_gradient_of_its_formula():
    labels = torch.tensor([7, 2, 7, 2])
    vectors = [draw(4, 3, seed=20 + i, low=-1).double().requires_grad_() for i in range(4)]
    generated = vectors[2:]

    def loss(one, other):
        return center_pair_mining((vectors[0].detach(), vectors[1].detach()), (one, other), labels, 5.0)

    (slope,) = torch.autograd.grad(loss(*generated), generated[0])
    step = 1e-6 * draw(4, 3, seed=30, low=-1).double()
    # The distance to the own modality's center is a yardstick: its slope is not part of the loss's.
    center = vectors[0].detach()
    for person in (0, 1):
        rows = [person, person + 2]
        gap = (generated[0][rows].mean(0) - center[rows].mean(0)).detach()
        slope[rows] -= gap / gap.norm() / 2 / 2 / 2
    with torch.no_grad():
        ends = [loss(generated[0] + sign * step, generated[1]) for sign in (1, -1)]
    torch.testing.assert_close((slope * step).sum(), (ends[0] - ends[1]) / 2, rtol=1e-6, atol=0)
    with pytest.raises(BadInput, match="two identities"):
        center_pair_mining(vectors[:2], vectors[2:], torch.tensor([1, 1, 1, 1]))
    assert torch.autograd.gradcheck(orthogonality, (vectors[0], vectors[1]))


def test_dropout_and_grey_images_come_from_the_batch_generator_alone(sysu):
    victim = build_victim(DEEN, sysu, **SMALL)
    before = torch.get_rng_state()
    first, second, other = (victim.training_losses(make_batch(seed=s)) for s in (12, 12, 13))
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second
    assert first["identity"] != other["identity"]


def test_training_drops_one_element_in_a_hundred_of_every_version(sysu):
    victim = build_victim(DEEN, sysu, **SMALL)
    seen = []
    victim.trunk.layer4[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    victim.expansion.register_forward_hook(lambda module, inputs, output: seen.append(output))
    victim.training_losses(make_batch())
    made, taken = seen
    dropped = (taken == 0) & (made != 0)
    for version in dropped.chunk(3):
        assert 0.002 < float(version.float().mean()) < 0.02
    kept = ~dropped
    torch.testing.assert_close(taken[kept], made[kept] / 0.99)


def test_training_reaches_every_parameter_once_the_blocks_have_left_their_start(variant):
    victim = DEEN(num_classes=6, width=0.0625, blocks=(1, 1, 1, 1), input_size=(64, 16), variant=variant)
    norms = [b.norm for a in victim.aggregation.values() for b in (a.channel, a.position)]
    assert len(norms) == 2 * BLOCKS[variant]
    assert not any(norm.weight.any() or norm.bias.any() for norm in norms)
    for norm in norms:
        torch.nn.init.constant_(norm.weight, 0.5)
    assert untrained(victim.train(), make_batch()) == []
    assert victim.neck.bias.grad is None


def test_erasing_is_milder_for_the_small_variant_as_published():
    light = {"num_classes": 2, "blocks": (1, 1, 1, 1), "block": "basic"}
    recipes = {variant: DEEN(variant=variant, **light).recipe() for variant in BLOCKS}
    assert recipes["sysu"].erasing_area == (0.2, 0.8)
    assert recipes["regdb"].erasing_area == (0.02, 0.4)
