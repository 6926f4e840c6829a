"""MRCN against a slow transcription of its network and losses, from a state dict alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
import torchvision
from two_stream_oracle import batch_norm, block, cross_entropy, normalised, unit
from victim_checks import misfits, sampled_state, untrained

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.layers import ModalityRestitution
from vbench.victims.load import build_victim
from vbench.victims.losses import causal_separation, center_quadruplet, identity_centers
from vbench.victims.mrcn import MRCN
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
CLASSES, BLOCKS = 5, (1, 2, 1, 1)
TINY = {"num_classes": CLASSES, "width": 0.0625, "blocks": BLOCKS, "input_size": (48, 32)}
WIDTHS = {"stem": 4, "layer1": 16, "layer2": 32, "layer3": 64, "layer4": 128}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def random_state(place="layer2", seed=0):
    """Random tensors under the names of a file of ours, at a sixteenth of the width."""
    resnet = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, list(BLOCKS))
    shapes = {}
    for name, tensor in resnet.state_dict().items():
        shape = [max(1, n // 16) if n >= 64 else n for n in tensor.shape]
        if name.startswith("layer"):
            shapes[f"trunk.{name}"] = shape
        elif not name.startswith("fc."):
            shapes |= {f"trunk.{modality}_stem.{name}": shape for modality in ("visible", "infrared")}
    channels = WIDTHS[place]
    hidden = max(1, channels // 16)
    for gate in ("restitute", "compensate"):
        shapes[f"restitution.{gate}.squeeze.weight"] = (hidden, channels, 1, 1)
        shapes[f"restitution.{gate}.excite.weight"] = (channels, hidden, 1, 1)
    for modality in ("visible", "infrared"):
        shapes |= {f"restitution.{modality}_norm.{name}": (channels,) for name in ("weight", "bias")}
    shapes |= {f"neck.{name}": (128,) for name in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"neck.num_batches_tracked": (), "classifier.weight": (CLASSES, 128)}
    generator = seeded(seed)

    return sampled_state(shapes, generator, 0.2)


def instance_norm(state, modality, x):
    weight, bias = (state[f"restitution.{modality.value}_norm.{name}"] for name in ("weight", "bias"))
    out = torch.empty_like(x)
    for i, one in enumerate(x):
        for c, channel in enumerate(one):
            deviation = torch.sqrt(((channel - channel.mean()) ** 2).mean() + 1e-5)
            out[i, c] = (channel - channel.mean()) / deviation * weight[c] + bias[c]
    return out


def distilled(state, gate, removed):
    squeeze, excite = (
        state[f"restitution.{gate}.{name}.weight"][..., 0, 0] for name in ("squeeze", "excite")
    )
    hidden = torch.relu(removed.mean(dim=(2, 3)) @ squeeze.T)
    return removed / (1 + torch.exp(-(hidden @ excite.T)))[:, :, None, None]


def stages(state, x, names):
    """Each named stage's output, x being what the first of them takes."""
    maps = {}
    for name in names:
        stride = 2 if name in ("layer2", "layer3") else 1
        for index in range(BLOCKS[int(name[-1]) - 1]):
            x = block(state, f"trunk.{name}.{index}", x, stride if index == 0 else 1)
        maps[name] = x
    return maps


def split_at(place):
    order = list(WIDTHS)
    return order[1 : order.index(place) + 1], order[order.index(place) + 1 :]


def until_place(state, images, modality, place):
    """Maps up to ``place`` as the trunk leaves them, in order."""
    prefix = f"trunk.{modality.value}_stem"
    x = F.conv2d(normalised(images), state[f"{prefix}.conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(torch.relu(batch_norm(state, f"{prefix}.bn1", x)), 3, stride=2, padding=1)
    return {"stem": x} | stages(state, x, split_at(place)[0])


def network(state, images, modality, place="layer2"):
    """Stage maps, the pooled vector and the vector after the neck."""
    maps = until_place(state, images, modality, place)
    kept = instance_norm(state, modality, maps[place])
    maps[place] = kept + distilled(state, "restitute", maps[place] - kept)
    maps |= stages(state, maps[place], split_at(place)[1])
    pooled = maps["layer4"].mean(dim=(2, 3))
    return maps, pooled, batch_norm(state, "neck", pooled)


@pytest.fixture(scope="module")
def state():
    return random_state()


@pytest.fixture
def victim(state):
    victim = MRCN(**TINY)
    victim.load_state_dict(state)
    return victim.eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 48, 32, generator=seeded(2))


@pytest.mark.parametrize("modality", BOTH)
@pytest.mark.parametrize("place", ["stem", "layer1", "layer2", "layer3"])
def test_network_is_the_one_written_out(images, modality, place):
    state = random_state(place)
    victim = MRCN(**TINY, place=place)
    victim.load_state_dict(state)
    maps, pooled, neck = network(state, images, modality, place)
    output = victim.eval()(images, modality)
    for stage, expected in maps.items():
        torch.testing.assert_close(output.features[stage], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(output.parts["pooled"], unit(pooled), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(output.embedding, unit(neck), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(output.logits, neck @ state["classifier.weight"].T, rtol=1e-3, atol=1e-4)
    victim.embedding = "pooled"
    torch.testing.assert_close(victim(images, modality).embedding, unit(pooled), rtol=1e-3, atol=1e-5)


def test_default_is_a_whole_resnet50_with_the_module():
    with torch.device("meta"):
        resnet = torchvision.models.resnet50()
    # One more stem than ResNet-50 has, and no classifier of ImageNet.
    trunk = sum(p.numel() for p in resnet.parameters()) - 2048 * 1000 - 1000 + 3 * 64 * 49 + 2 * 64
    module = 2 * 2 * 512 * 32 + 2 * 2 * 512
    head = 2 * 2048 + 395 * 2048
    own = MRCN()
    assert sum(p.numel() for p in own.parameters()) == trunk + module + head
    assert own.input_size == (384, 192)
    assert own.embedding_dim == 2048


def test_flip_averages_unit_vectors(victim, images):
    plain, mirrored = victim(images, BOTH[0]).embedding, victim(images.flip(3), BOTH[0]).embedding
    victim.flip = True
    torch.testing.assert_close(victim(images, BOTH[0]).embedding, unit((plain + mirrored) / 2))


@misfits(
    (lambda s: s.pop("classifier.weight"), "classifier.weight"),
    missing=["restitution.visible_norm.bias"],
    unexpected=["gate"],
    misshaped=["neck.bias"],
)
def test_a_file_that_does_not_fit_is_refused_by_name(state, victim, tmp_path, change, message):
    changed = dict(state)
    change(changed)
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, changed, {"victim": "mrcn", "options": victim.describe()})
    with pytest.raises(BadInput, match=message):
        build_victim(MRCN, path, device="cpu")


# The module.


def test_what_was_removed_is_shared_out_between_the_versions():
    module = ModalityRestitution(4)
    module.draw_weights(seeded(0))
    generator = seeded(6)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    visible, infrared = (torch.randn(2, 4, 3, 5, generator=generator) for _ in range(2))
    found = module.disentangle(visible, infrared)
    state = {f"restitution.{name}": tensor for name, tensor in module.state_dict().items()}
    relevant = []
    for index, (features, modality) in enumerate(zip((visible, infrared), BOTH, strict=True)):
        kept = instance_norm(state, modality, features)
        removed = features - kept
        relevant.append(distilled(state, "compensate", removed))
        restituted = kept + distilled(state, "restitute", removed)
        torch.testing.assert_close(found.normalised[index], kept, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.restituted[index], restituted, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.tainted[index], kept + relevant[-1], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(module(features, modality), found.restituted[index])
    for index in (0, 1):
        expected = found.restituted[index] + relevant[1 - index]
        torch.testing.assert_close(found.compensated[index], expected, rtol=1e-4, atol=1e-5)


# The losses.

LABELS = torch.tensor([4, 4, 1, 1, 2, 2])


def distance(a, b):
    return math.sqrt(sum((float(x) - float(y)) ** 2 for x, y in zip(a, b, strict=True)))


def centers_of(vectors, labels=LABELS):
    return {k: vectors[labels == k].mean(dim=0) for k in sorted(set(labels.tolist()))}


def literal_center_quadruplet(versions, labels, margin):
    every = [(k, center) for vectors in versions for k, center in centers_of(vectors, labels).items()]
    total = 0.0
    for k, anchor in every:
        furthest = max(distance(anchor, other) for j, other in every if j == k)
        nearest = min(distance(anchor, other) for j, other in every if j != k)
        total += max(0.0, margin + furthest - nearest) / len(every)
    return total


def literal_causal_separation(normalised_pair, restituted, tainted, labels):
    gaps = []
    for visible, infrared in (normalised_pair, restituted, tainted):
        a, b = centers_of(unit(visible), labels), centers_of(unit(infrared), labels)
        gaps.append([distance(a[k], b[k]) for k in a])
    return sum(
        math.log(1 + math.exp(given - plain)) + math.log(1 + math.exp(plain - harmed))
        for plain, given, harmed in zip(*gaps, strict=True)
    ) / len(gaps[0])


@pytest.fixture
def vectors():
    generator = seeded(7)
    return [torch.randn(6, 4, dtype=torch.float64, generator=generator) for _ in range(6)]


def test_identity_centers_are_means_in_the_order_of_labels(vectors):
    centers, which, counts = identity_centers(vectors[0], LABELS)
    torch.testing.assert_close(centers, torch.stack(list(centers_of(vectors[0]).values())))
    assert which.tolist() == [2, 2, 0, 0, 1, 1]
    assert counts.tolist() == [2, 2, 2]
    assert identity_centers(vectors[0].bfloat16(), LABELS)[0].dtype == torch.float32


def test_center_quadruplet_is_the_loop_it_stands_for(vectors):
    four = vectors[:4]
    found = center_quadruplet(four, LABELS, 0.3)
    assert float(found) == pytest.approx(literal_center_quadruplet(four, LABELS, 0.3))
    four = [one.requires_grad_() for one in four]
    assert torch.autograd.gradcheck(lambda *v: center_quadruplet(v, LABELS, 0.3), four)
    with pytest.raises(BadInput, match="two identities"):
        center_quadruplet(four, LABELS * 0, 0.3)
    with pytest.raises(BadInput, match="two versions"):
        center_quadruplet(four[:1], LABELS, 0.3)


def test_causal_separation_is_the_loop_it_stands_for(vectors):
    pairs = (tuple(vectors[:2]), tuple(vectors[2:4]), tuple(vectors[4:]))
    found = causal_separation(*pairs, LABELS)
    assert float(found) == pytest.approx(literal_causal_separation(*pairs, LABELS))
    moved = [one.requires_grad_() for one in vectors[2:]]
    assert torch.autograd.gradcheck(lambda *v: causal_separation(pairs[0], v[:2], v[2:], LABELS), moved)


def test_causal_separation_wants_restitution_near_and_taint_far_and_leaves_the_yardstick(vectors):
    plain, near, far = ((vectors[0], vectors[0] + scale * vectors[1]) for scale in (0.5, 0.1, 2.0))
    good, bad = causal_separation(plain, near, far, LABELS), causal_separation(plain, far, near, LABELS)
    assert good < 2 * math.log(2) < bad
    leaf = vectors[0].clone().requires_grad_()
    causal_separation((leaf, vectors[1]), near, far, LABELS).requires_grad_().backward()
    assert leaf.grad is None


@pytest.fixture
def batch():
    generator = seeded(10)
    visible, infrared = (torch.rand(6, 3, 48, 32, generator=generator) for _ in range(2))
    return TrainBatch(visible, infrared, LABELS, generator, instances=2)


@pytest.mark.parametrize("place", ["stem", "layer2"])
def test_training_losses_are_those_written_out(batch, place):
    # In evaluation mode batch statistics are the stored ones, which the transcription uses.
    state = random_state(place)
    victim = MRCN(**TINY, place=place)
    victim.load_state_dict(state)
    losses = victim.eval().training_losses(batch)
    kept, removed = [], []
    for images, modality in zip((batch.visible, batch.infrared), BOTH, strict=True):
        features = until_place(state, images, modality, place)[place]
        kept.append(instance_norm(state, modality, features))
        removed.append(features - kept[-1])
    irrelevant = [distilled(state, "restitute", one) for one in removed]
    relevant = [distilled(state, "compensate", one) for one in removed]
    given = [kept[i] + irrelevant[i] for i in (0, 1)]
    four = [*given, given[0] + relevant[1], given[1] + relevant[0]]
    last = stages(state, torch.cat(four), split_at(place)[1])["layer4"]
    pooled = last.mean(dim=(2, 3)).split(6)
    logits = batch_norm(state, "neck", torch.cat(pooled)) @ state["classifier.weight"].T
    own = torch.cat(pooled[:2])
    both = LABELS.repeat(2).tolist()
    triplet = 0.0
    for i, label in enumerate(both):
        apart = [distance(own[i], other) for other in own]
        furthest = max(d for d, other in zip(apart, both, strict=True) if other == label)
        nearest = min(d for d, other in zip(apart, both, strict=True) if other != label)
        triplet += max(0.0, 0.3 + furthest - nearest) / len(both)

    def averages(pair):
        return tuple(torch.relu(one).mean(dim=(2, 3)) for one in pair)

    tainted = [kept[i] + relevant[i] for i in (0, 1)]
    expected = {
        "identity": float(cross_entropy(logits, LABELS.repeat(4))),
        "triplet": triplet,
        "center_quadruplet": literal_center_quadruplet(pooled, LABELS, 0.3),
        "causal_separation": literal_causal_separation(
            averages(kept), averages(given), averages(tainted), LABELS
        ),
    }
    assert {name: float(loss.detach()) for name, loss in losses.items()} == pytest.approx(expected, rel=1e-3)


def test_every_parameter_of_both_modalities_is_trained(victim, batch):
    assert untrained(victim.train(), batch) == []
    assert [name for name, p in victim.named_parameters() if not p.requires_grad] == ["neck.bias"]


def test_thin_network_has_its_own_recipe_and_starts_the_same_everywhere():
    first, second = (MRCN(num_classes=2, **MRCN.THIN) for _ in range(2))
    assert first.recipe().schedule == "cosine"
    assert MRCN(**{**TINY, "width": 1.0}).recipe().optimizer == "sgd"
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
        assert tensor.isfinite().all(), name
