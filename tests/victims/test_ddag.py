"""DDAG: part attention, graph attention in training, and the weight that couples them."""

from __future__ import annotations

import math

import pytest
import torch
import two_stream_oracle as oracle
from released_agw import released_layout, save_released
from victim_checks import check_gradient, check_refused, check_told_apart, hardest_triplet, misfits, untrained

from vbench.core.types import Modality
from vbench.victims.ddag import DDAG
from vbench.victims.layers import GraphClassifier
from vbench.victims.load import build_victim
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
SMALL = {"width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (64, 32), "device": "cpu"}
CHANNELS, CLASSES, PARTS, HEADS, HIDDEN = 128, 6, 3, 2, 5


def draw(*shape, seed, low=0.0, high=1.0):
    return torch.empty(shape).uniform_(low, high, generator=torch.Generator().manual_seed(seed))


def released_ddag(classes=CLASSES, parts=PARTS, heads=HEADS):
    """What the authors' network stores, a trunk as AGW's and then its own, used and unused."""
    base = released_layout(classes, width=4, blocks=(1, 1, 1, 1))
    state = {name: tensor for name, tensor in base.items() if not name.startswith("NL_")}
    convolution = (CHANNELS, CHANNELS, 1, 1)
    shapes = {
        "classifier1.weight": (classes, CHANNELS),
        "classifier2.weight": (classes, CHANNELS),
        "wpa.gate": (parts,),
        **{f"wpa.{layer}.weight": convolution for layer in ("fc1.0", "fc2", "fc3", "W.0")},
        **{f"wpa.{layer}.bias": (CHANNELS,) for layer in ("fc1.0", "fc2", "fc3", "W.0", "W.1", "bottleneck")},
        **{
            f"wpa.{layer}.{part}": (CHANNELS,)
            for layer in ("W.1", "bottleneck")
            for part in ("weight", "running_mean", "running_var")
        },
        **{f"attention_{head}.W": (CHANNELS, HIDDEN) for head in range(heads)},
        **{f"attention_{head}.a": (2 * HIDDEN, 1) for head in range(heads)},
        "out_att.W": (HIDDEN * heads, classes),
        "out_att.a": (2 * classes, 1),
    }
    for number, (name, shape) in enumerate(shapes.items()):
        positive = name.endswith("running_var")
        state[name] = draw(
            *shape, seed=100 + number, low=0.5 if positive else -0.4, high=1.5 if positive else 0.4
        )
    for layer in ("W.1", "bottleneck"):
        state[f"wpa.{layer}.num_batches_tracked"] = torch.tensor(9)
    return state


@pytest.fixture(scope="module")
def state():
    return released_ddag()


def vectors_of(state, last):
    """Pooled vector, after the neck, and after part attention: image by image, stripe by stripe."""
    pooled = last.mean(dim=(2, 3))
    neck = oracle.batch_norm(state, "bottleneck", pooled)
    gate = torch.exp(state["wpa.gate"]) / torch.exp(state["wpa.gate"]).sum()
    count, height = len(gate), last.shape[2]
    sums = []
    for image, vector in zip(last, neck, strict=True):
        stripes = []
        for part in range(count):
            rows = image[:, math.floor(part * height / count) : math.ceil((part + 1) * height / count)]
            stripes.append(rows.mean(dim=(1, 2)))

        def project(layer, stripe):
            return state[f"wpa.{layer}.weight"][:, :, 0, 0] @ stripe + state[f"wpa.{layer}.bias"]

        total = vector
        for part in range(count):
            query = project("fc1.0", stripes[part])
            scores = [torch.exp((query * project("fc2", other)).sum()) for other in stripes]
            refined = sum(s * project("fc3", other) for s, other in zip(scores, stripes, strict=True))
            total = total + gate[part] * refined / sum(scores)
        sums.append(total)
    return pooled, neck, oracle.batch_norm(state, "wpa.bottleneck", torch.stack(sums))


@pytest.mark.parametrize("modality", BOTH)
def test_both_vectors_equal_the_network_written_out(state, path, modality):
    images = draw(3, 3, 64, 32, seed=1)
    _, neck, refined = vectors_of(state, oracle.maps(state, images, modality)["layer4"])
    expected = {"attention": oracle.unit(refined), "neck": oracle.unit(neck)}
    for name, wanted in expected.items():
        output = build_victim(DDAG, path, **SMALL, embedding=name)(images, modality)
        torch.testing.assert_close(output.embedding, wanted, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(output.parts["attention"], expected["attention"], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(output.logits, neck @ state["classifier.weight"].T, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(expected["neck"], expected["attention"], atol=1e-3)


def test_sizes_are_read_off_the_file(tmp_path):
    path = save_released(tmp_path / "ddag.t", released_ddag(classes=4, parts=2, heads=3))
    victim = build_victim(DDAG, path, **SMALL)
    assert (victim.num_classes, victim.part_count, victim.graph_heads, victim.graph_width) == (
        4,
        2,
        3,
        HIDDEN,
    )
    assert (victim.embedding, victim.flip, victim.embedding_dim) == ("attention", False, CHANNELS)


def test_tensors_that_nothing_uses_do_not_matter(state, path, tmp_path):
    dead = [n for n in state if n.startswith(("classifier1", "classifier2", "wpa.W."))]
    assert len(dead) == 9
    images = draw(2, 3, 64, 32, seed=2)
    reference = build_victim(DDAG, path, **SMALL)(images, BOTH[0]).embedding
    without = {name: tensor for name, tensor in state.items() if name not in dead}
    other = build_victim(DDAG, save_released(tmp_path / "x.t", without), **SMALL)
    assert torch.equal(other(images, BOTH[0]).embedding, reference)


@misfits(
    (lambda s: [s.pop(n) for n in list(s) if n.startswith("wpa.fc")], r"missing \(6\): wpa.fc1.0.weight"),
    missing=["wpa.fc2.bias", "attention_1.a"],
    unexpected=["extra.weight", "wpa.W.2.bias"],
    misshaped=["out_att.W"],
)
def test_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(DDAG, state, change, message, tmp_path / "ddag.t", **SMALL)


def test_files_of_other_models_are_told_apart(path, tmp_path):
    check_told_apart(DDAG, "a", path, tmp_path, **SMALL)


@pytest.mark.parametrize("modality", BOTH)
def test_gradient_reaches_the_image(path, modality):
    victim = build_victim(DDAG, path, **SMALL, flip=True).double()
    direction = draw(CHANNELS, seed=5).double()

    image, step = draw(1, 3, 64, 32, seed=4).double(), draw(1, 3, 64, 32, seed=6, low=-1).double()
    check_gradient(victim, modality, image, direction, step)


def elu(x):
    return torch.where(x > 0, x, torch.exp(x.clamp(max=0)) - 1)


def graph_layer(nodes, labels, weight, scores, kept=None):
    """Node by node over the nodes of its identity, with concatenated pairs; ``kept`` scales the shares."""
    kept = torch.ones(len(labels), len(labels)) if kept is None else kept
    mapped, out = nodes @ weight, []
    for i, label in enumerate(labels):
        mixed, total = 0.0, 0.0
        for j, other in enumerate(labels):
            if other == label:
                raw = (torch.cat((mapped[i], mapped[j])) * scores[:, 0]).sum()
                share = torch.exp(raw if raw > 0 else 0.2 * raw)
                mixed, total = mixed + kept[i, j] * share * mapped[j], total + share
        out.append(mixed / total)
    return torch.stack(out)


PREVIOUS = {"epoch": 3, "rate": 0.1, "identity": 1.5, "triplet": 0.25, "parts": 1.25, "graph": 9.0}


def make_batch(previous, smoothing=0.0):
    return TrainBatch(
        draw(4, 3, 64, 32, seed=7),
        draw(4, 3, 64, 32, seed=8),
        torch.tensor([4, 4, 1, 1]),
        torch.Generator().manual_seed(9),
        instances=2,
        epoch=3,
        previous=previous,
        label_smoothing=smoothing,
    )


def test_losses_equal_the_objective_written_out(state, path):
    victim = build_victim(DDAG, path, **SMALL, graph_dropout=0)
    batch = make_batch(PREVIOUS, smoothing=0.1)
    losses = victim.training_losses(batch)
    stems = [
        oracle.stem(state, oracle.normalised(images), modality)
        for images, modality in zip((batch.visible, batch.infrared), BOTH, strict=True)
    ]
    pooled, neck, refined = vectors_of(state, oracle.shared_maps(state, torch.cat(stems))["layer4"])
    both = torch.cat((batch.labels, batch.labels))
    heads = [
        elu(graph_layer(pooled, both.tolist(), state[f"attention_{h}.W"], state[f"attention_{h}.a"]))
        for h in range(HEADS)
    ]
    graph = elu(graph_layer(torch.cat(heads, dim=1), both.tolist(), state["out_att.W"], state["out_att.a"]))
    classifier = state["classifier.weight"].T
    expected = {
        "identity": oracle.cross_entropy(neck @ classifier, both, 0.1),
        "triplet": hardest_triplet(pooled, both.tolist()),
        "parts": oracle.cross_entropy(refined @ classifier, both, 0.1),
        "graph": oracle.cross_entropy(graph, both) / (1 + 1.5 + 0.25 + 1.25),
    }
    assert set(losses) == set(expected)
    for name, wanted in expected.items():
        assert losses[name].item() == pytest.approx(float(wanted), rel=1e-4), name


def test_graph_counts_nothing_in_the_first_epoch_and_more_as_the_other_losses_fall(path):
    victim = build_victim(DDAG, path, **SMALL, graph_dropout=0)
    easy = {**PREVIOUS, "identity": 0.0, "triplet": 0.0, "parts": 0.0}
    first, hard, last = (victim.training_losses(make_batch(p))["graph"].item() for p in ({}, PREVIOUS, easy))
    assert first == 0
    assert last == pytest.approx(4 * hard, rel=1e-5)


def test_graph_attention_equals_the_loop_over_nodes_with_every_dropout():
    layer = GraphClassifier(4, 3, 2, 5).double()
    with torch.no_grad():
        for number, parameter in enumerate(layer.parameters()):
            parameter.copy_(draw(*parameter.shape, seed=30 + number, low=-1.5, high=1.5))
    vectors, labels = draw(7, 4, seed=40, low=-1).double(), [0, 1, 0, 2, 1, 0, 2]
    generator = torch.Generator().manual_seed(41)
    attended = layer(vectors, torch.tensor(labels), 0.3, torch.Generator().manual_seed(41))

    def mask(rows, columns):
        return torch.empty(rows, columns).double().bernoulli_(0.7, generator=generator) / 0.7

    nodes = vectors * mask(7, 4)
    heads = [elu(graph_layer(nodes, labels, h.weight, h.scores, mask(7, 7))) for h in layer.heads]
    nodes = torch.cat(heads, dim=1) * mask(7, 6)
    expected = elu(graph_layer(nodes, labels, layer.out.weight, layer.out.scores, mask(7, 7)))
    torch.testing.assert_close(attended, expected)


def test_graph_layer_has_the_gradient_of_its_formula(path):
    layer = build_victim(DDAG, path, **SMALL).graph.double()
    vectors = draw(5, CHANNELS, seed=10, low=-1).double().requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 1])
    assert torch.autograd.gradcheck(lambda x: layer(x, labels, 0.0, None), vectors, atol=1e-6)


def test_graph_links_images_of_one_identity_alone(path):
    layer = build_victim(DDAG, path, **SMALL).graph
    vectors, labels = draw(4, CHANNELS, seed=11, low=-1), torch.tensor([0, 1, 0, 1])
    before = layer(vectors, labels, 0.0, None)
    vectors[1] += 1
    after = layer(vectors, labels, 0.0, None)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert not torch.isclose(before[3], after[3]).all()


def test_dropout_comes_from_the_batch_generator_alone(path):
    victim = build_victim(DDAG, path, **SMALL, graph_dropout=0.5)
    before = torch.get_rng_state()
    first, second = (victim.training_losses(make_batch(PREVIOUS))["graph"].item() for _ in range(2))
    moved = make_batch(PREVIOUS)
    torch.rand(1, generator=moved.generator)
    third = victim.training_losses(moved)["graph"].item()
    assert torch.equal(torch.get_rng_state(), before)
    assert first == second != third


def test_training_reaches_every_parameter():
    victim = DDAG(
        num_classes=6, width=0.0625, blocks=(1, 1, 1, 1), input_size=(64, 32), graph_width=4
    ).train()
    assert untrained(victim, make_batch(PREVIOUS)) == []
    assert victim.neck.bias.grad is None and victim.part_attention.neck.bias.grad is None


def test_starting_weights_come_from_the_generator_alone():
    options = {"num_classes": 3, "width": 0.0625, "blocks": (1, 1, 1, 1), "input_size": (64, 32)}
    before = torch.get_rng_state()
    first, second, other = (DDAG(**options, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    states = [victim.state_dict() for victim in (first, second, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["graph.out.scores"], states[2]["graph.out.scores"])
    assert torch.equal(states[0]["part_attention.gate"], torch.full((3,), 1 / 3))
    assert all(tensor.isfinite().all() for tensor in states[0].values())
