"""MPANet against a slow transcription of the paper's network and losses, under the released names."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from two_stream_oracle import batch_norm, block, cross_entropy, normalised
from victim_checks import check_refused, misfits, sampled_state, untrained

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.metrics import ranking_distance
from vbench.victims.layers import mask_overlap, masked_vectors
from vbench.victims.load import build_victim, load_victim
from vbench.victims.losses import MutualClassifiers, center_cluster
from vbench.victims.mpanet import MPANet
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
TINY = {"width": 0.0625, "blocks": (1, 2, 1, 1), "input_size": (48, 32)}
CLASSES, PARTS, WIDE = 5, 3, 128


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def released_state(seed=0, classes=CLASSES, parts=PARTS):
    """Random tensors under the names of the authors' file, at a sixteenth of the width."""
    generator = seeded(seed)
    resnet = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, list(TINY["blocks"]))
    shapes = {
        f"backbone.{name}": [max(1, n // 16) if n >= 64 else n for n in tensor.shape]
        for name, tensor in resnet.state_dict().items()
        if not name.startswith("fc.")
    }
    for stage, channels in ((3, 64), (4, WIDE)):
        shapes[f"backbone.MAM{stage}.channel_attention.0.weight"] = (channels // 16, channels, 1, 1)
        shapes[f"backbone.MAM{stage}.channel_attention.2.weight"] = (channels, channels // 16, 1, 1)
    dim = WIDE * (parts + 1)
    shapes |= {"spatial_attention.weight": (parts, WIDE, 1, 1), "spatial_attention.bias": (parts,)}
    shapes |= {f"bn_neck.{name}": (dim,) for name in ("weight", "bias", "running_mean", "running_var")}
    shapes["bn_neck.num_batches_tracked"] = ()
    for name in ("", "visible_", "infrared_"):
        shapes[f"{name}classifier.weight"] = (classes, dim)
    shapes |= {f"{name}_classifier_.weight": (classes, dim) for name in ("visible", "infrared")}

    return sampled_state(shapes, generator, 0.1)


def alleviated(state, stage, x):
    squeeze, excite = (state[f"backbone.MAM{stage}.channel_attention.{part}.weight"] for part in (0, 2))
    out = torch.empty_like(x)
    for i, one in enumerate(x):
        hidden = torch.relu(squeeze[:, :, 0, 0] @ one.mean(dim=(1, 2)))
        gate = 1 / (1 + torch.exp(-(excite[:, :, 0, 0] @ hidden)))
        for c, channel in enumerate(one):
            deviation = torch.sqrt(((channel - channel.mean()) ** 2).mean() + 1e-5)
            out[i, c] = gate[c] * channel + (1 - gate[c]) * (channel - channel.mean()) / deviation
    return out


def network(state, images):
    """Stage maps, masks, the concatenated vector and the vector after the neck."""
    x = F.conv2d(normalised(images), state["backbone.conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(torch.relu(batch_norm(state, "backbone.bn1", x)), 3, stride=2, padding=1)
    maps = {"stem": x}
    for stage, count, stride in zip((1, 2, 3, 4), TINY["blocks"], (1, 2, 2, 1), strict=True):
        for index in range(count):
            x = block(state, f"backbone.layer{stage}.{index}", x, stride if index == 0 else 1)
        x = alleviated(state, stage, x) if stage >= 3 else x
        maps[f"layer{stage}"] = x
    masks = torch.sigmoid(
        torch.einsum("pc,nchw->nphw", state["spatial_attention.weight"][:, :, 0, 0], x)
        + state["spatial_attention.bias"][:, None, None]
    )
    vectors = [(x * masks[:, p, None]).mean(dim=(2, 3)) for p in range(masks.shape[1])]
    pooled = torch.cat([*vectors, x.mean(dim=(2, 3))], dim=1)
    return maps, masks, pooled, batch_norm(state, "bn_neck", pooled)


@pytest.fixture(scope="module")
def state():
    return released_state()


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("mpanet") / "model_best.pth"
    torch.save(state, path)
    return path


@pytest.fixture
def victim(file):
    return load_victim("mpanet", file, device="cpu", **TINY)


@pytest.fixture
def images():
    return torch.rand(3, 3, 48, 32, generator=seeded(2))


@pytest.mark.parametrize("modality", BOTH)
def test_a_released_file_gives_the_networks_own_vectors(victim, state, images, modality):
    maps, _, pooled, neck = network(state, images)
    output = victim(images, modality)
    for stage, expected in maps.items():
        torch.testing.assert_close(output.features[stage], expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.parts["pooled"], pooled, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output.embedding, neck, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(output.logits, neck @ state["classifier.weight"].T, rtol=1e-4, atol=1e-4)
    assert output.embedding.shape == (3, victim.embedding_dim) == (3, WIDE * (PARTS + 1))
    victim.embedding = "pooled"
    torch.testing.assert_close(victim(images, modality).embedding, pooled, rtol=1e-4, atol=1e-5)


def test_full_size_has_the_parameters_of_the_released_file():
    with torch.device("meta"):
        resnet = torchvision.models.resnet50()
    trunk = sum(p.numel() for p in resnet.parameters()) - 2048 * 1000 - 1000
    own = MPANet()
    assert sum(p.numel() for p in own.parameters()) == 52_517_958
    assert len(own.state_dict()) == 334
    assert sum(p.numel() for p in own.trunk.parameters()) == trunk
    assert own.embedding_dim == 14336


@misfits(
    (lambda s: s.pop("classifier.weight"), "no identity classifier"),
    missing=["backbone.layer1.0.conv1.weight", "visible_classifier_.weight", "bn_neck.weight"],
    unexpected=["gate"],
    misshaped=["bn_neck.bias"],
)
def test_a_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(MPANet, state, change, message, tmp_path / "m.pth", device="cpu", **TINY)


def test_the_file_is_recognised_when_another_victim_is_asked_for(file):
    with pytest.raises(BadInput, match="MPANET checkpoint"):
        load_victim("agw", file, device="cpu")


@pytest.mark.parametrize(
    ("classes", "variant", "size", "similarity"),
    [(395, "sysu", (384, 128), "cosine"), (206, "regdb", (256, 128), "euclidean")],
)
def test_the_number_of_identities_tells_the_variant(tmp_path, classes, variant, size, similarity):
    torch.save(released_state(classes=classes, parts=4), tmp_path / "m.pth")
    small = {name: value for name, value in TINY.items() if name != "input_size"}
    victim = build_victim(MPANet, tmp_path / "m.pth", device="cpu", **small)
    assert (victim.variant, victim.input_size, victim.similarity) == (variant, size, similarity)
    assert (victim.num_classes, victim.parts) == (classes, 4)
    assert victim.resize_filter == "bilinear"


@pytest.mark.parametrize("variant", ["sysu", "regdb"])
def test_ranking_is_by_the_distance_of_the_authors_evaluation(state, variant):
    victim = MPANet(num_classes=CLASSES, parts=PARTS, variant=variant, **TINY).eval()
    victim.load_state_dict(victim.released.translate(state, victim.state_dict(), "state"))
    rows = victim(torch.rand(6, 3, 48, 32, generator=seeded(4)), BOTH[0]).embedding.detach()
    compared = rows / rows.norm(dim=1, keepdim=True) if variant == "sysu" else rows
    distance = torch.tensor([[((q - g) ** 2).sum() for g in compared[3:]] for q in compared[:3]])
    mine = ranking_distance(rows[:3], rows[3:], victim.similarity)
    scale = 2 if variant == "sysu" else 1
    torch.testing.assert_close(scale * (mine - mine[:, :1]), distance - distance[:, :1], rtol=1e-3, atol=1e-3)


def test_flip_averages_without_changing_the_length(victim, images):
    plain, mirrored = victim(images, BOTH[0]).embedding, victim(images.flip(3), BOTH[0]).embedding
    victim.flip = True
    torch.testing.assert_close(victim(images, BOTH[0]).embedding, (plain + mirrored) / 2)


def test_both_modalities_share_every_layer(victim, images):
    assert torch.equal(victim(images, BOTH[0]).embedding, victim(images, BOTH[1]).embedding)


# The losses.


def literal_center_cluster(vectors, labels, margin):
    """As the paper words it: a term for each image, and one for each ordered pair of centers."""
    centers = {int(k): vectors[labels == k].mean(dim=0) for k in labels.unique()}
    spread = sum(
        torch.sqrt(((v - centers[int(k)]) ** 2).sum()) for v, k in zip(vectors, labels, strict=True)
    ) / len(labels)
    terms = []
    for anchor, center in centers.items():
        gaps = [
            torch.relu(margin - torch.sqrt(((center - centers[int(k)]) ** 2).sum()))
            for k in labels
            if int(k) != anchor
        ]
        terms.append(sum(gaps) / len(gaps))
    return spread + sum(terms) / len(terms)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 2], [3, 1, 1, 3, 3, 0]])
def test_center_cluster_is_the_loop_it_stands_for(labels):
    labels = torch.tensor(labels)
    vectors = (torch.randn(6, 4, dtype=torch.float64, generator=seeded(6)) * 0.3).requires_grad_()
    torch.testing.assert_close(
        center_cluster(vectors, labels, 0.7), literal_center_cluster(vectors, labels, 0.7)
    )
    assert torch.autograd.gradcheck(lambda v: center_cluster(v, labels, 0.7), vectors)


def test_center_cluster_of_equal_vectors_has_a_finite_gradient():
    vectors = torch.ones(4, 3, requires_grad=True)
    loss = center_cluster(vectors, torch.tensor([0, 0, 1, 1]), 0.7)
    loss.backward()
    assert loss.item() == pytest.approx(0.7)
    assert vectors.grad.isfinite().all()
    with pytest.raises(BadInput, match="two identities"):
        center_cluster(vectors, torch.zeros(4, dtype=torch.long), 0.7)


def test_mask_overlap_counts_every_pair_of_masks_once():
    masks = torch.rand(2, 3, 4, 5, dtype=torch.float64, generator=seeded(7))
    pairs = [(i, j) for i in range(3) for j in range(i + 1, 3)]
    expected = sum((image[i] * image[j]).sum() for image in masks for i, j in pairs) / (2 * len(pairs))
    assert float(mask_overlap(masks)) == pytest.approx(float(expected), rel=1e-6)
    apart = torch.stack([(torch.arange(6) == p).float().view(2, 3) for p in range(3)])[None]
    assert mask_overlap(apart) == 0
    with pytest.raises(BadInput, match="two masks"):
        mask_overlap(masks[:, :1])


def test_masked_vectors_put_the_plain_average_last():
    features = torch.randn(2, 4, 3, 2, generator=seeded(8))
    masks = torch.stack((torch.ones(2, 3, 2), torch.zeros(2, 3, 2)), dim=1)
    mean = features.mean(dim=(2, 3))
    torch.testing.assert_close(masked_vectors(features, masks), torch.cat((mean, mean * 0, mean), dim=1))


def test_running_means_start_at_their_classifiers_follow_them_and_get_no_gradient():
    victim = MPANet(num_classes=CLASSES, **TINY)
    mutual = victim.mutual
    assert torch.equal(mutual.visible_mean.weight, mutual.visible.weight)
    assert not torch.equal(mutual.visible.weight, mutual.infrared.weight)
    before = mutual.infrared_mean.weight.clone()
    with torch.no_grad():
        mutual.infrared.weight.add_(1.0)
    mutual.follow(0.2)
    torch.testing.assert_close(mutual.infrared_mean.weight, before + 0.2)
    assert not mutual.infrared_mean.weight.requires_grad
    assert not mutual.visible_mean.weight.requires_grad


def literal_mutual(visible, infrared, mutual, labels):
    """Cross-entropy by modality; divergence from the own prediction to the other modality's mean."""
    rows = [(v, mutual.visible.weight, mutual.infrared_mean.weight) for v in visible]
    rows += [(i, mutual.infrared.weight, mutual.visible_mean.weight) for i in infrared]
    divergence = 0.0
    for vector, own, other in rows:
        p = torch.exp(own @ vector) / torch.exp(own @ vector).sum()
        q = torch.exp(other @ vector.detach()) / torch.exp(other @ vector.detach()).sum()
        divergence = divergence + (p * torch.log(p / q)).sum() / len(rows)
    identity = cross_entropy(visible @ mutual.visible.weight.T, labels)
    return identity + cross_entropy(infrared @ mutual.infrared.weight.T, labels), divergence


def test_mutual_losses_and_their_gradient_are_the_loop_they_stand_for():
    mutual = MutualClassifiers(4, 3).double()
    generator = seeded(9)
    with torch.no_grad():
        for parameter in mutual.parameters():
            parameter.normal_(generator=generator)
    visible, infrared = (torch.randn(4, 4, generator=generator).double().requires_grad_() for _ in range(2))
    labels = torch.tensor([0, 0, 2, 2])
    found = mutual.losses(visible, infrared, labels)
    expected = literal_mutual(visible, infrared, mutual, labels)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, check_dtype=False, rtol=1e-5, atol=1e-6)
        leaves = (visible, infrared, mutual.visible.weight)
        for mine, theirs in zip(
            torch.autograd.grad(one, leaves, retain_graph=True),
            torch.autograd.grad(other, leaves, retain_graph=True),
            strict=True,
        ):
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    with pytest.raises(BadInput, match="one feature vector a label"):
        mutual.losses(visible[:2], infrared, labels)


@pytest.fixture
def batch():
    generator = seeded(10)
    visible, infrared = (torch.rand(4, 3, 48, 32, generator=generator) for _ in range(2))
    return TrainBatch(visible, infrared, torch.tensor([0, 0, 3, 3]), generator, instances=2)


def test_training_losses_are_those_of_the_paper(victim, state, batch):
    # In evaluation mode batch statistics are the stored ones, which the transcription uses.
    losses = victim.training_losses(batch)
    images, both = torch.cat((batch.visible, batch.infrared)), torch.tensor([0, 0, 3, 3] * 2)
    _, masks, pooled, neck = network(state, images)
    mutual = victim.mutual
    weights = {name: state[f"{name}_classifier.weight"] for name in ("visible", "infrared")}
    for name in weights:
        moved = 0.8 * state[f"{name}_classifier_.weight"] + 0.2 * weights[name]
        torch.testing.assert_close(getattr(mutual, f"{name}_mean").weight, moved)
    by_modality, divergence = literal_mutual(neck[:4], neck[4:], mutual, batch.labels)
    expected = {
        "identity": cross_entropy(neck @ state["classifier.weight"].T, both),
        "center_cluster": literal_center_cluster(pooled, both, 0.7),
        "mask_overlap": 0.5 * mask_overlap(masks),
        "modality_identity": by_modality,
        "mutual": 2.5 * divergence,
    }
    assert set(losses) == set(expected)
    for name, value in expected.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_every_trained_parameter_gets_a_gradient_and_late_epochs_move_the_means_less(victim, batch):
    assert untrained(victim.train(), batch) == []
    frozen = {name for name, p in victim.named_parameters() if not p.requires_grad}
    assert frozen == {"neck.bias", "mutual.visible_mean.weight", "mutual.infrared_mean.weight"}
    moved = []
    for epoch in (98, 198):
        before = victim.mutual.visible_mean.weight.clone()
        gap = (victim.mutual.visible.weight.detach() - before).norm()
        victim.training_losses(TrainBatch(**{**vars(batch), "epoch": epoch}))
        moved.append(float((victim.mutual.visible_mean.weight - before).norm() / gap))
    assert moved == pytest.approx([0.2, 0.1], rel=1e-4)


def test_recipes_are_the_published_ones_at_full_width():
    sysu, regdb = (MPANet(num_classes=2, variant=variant).recipe() for variant in ("sysu", "regdb"))
    assert (sysu.identities, sysu.instances, sysu.milestones) == (16, 4, (80, 120))
    assert (regdb.identities, regdb.instances, regdb.milestones) == (12, 5, (110,))
    assert MPANet(num_classes=2, **MPANet.THIN).recipe().schedule == "cosine"
