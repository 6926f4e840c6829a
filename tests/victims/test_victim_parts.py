"""The shared pieces of victims against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
import torchvision

from vbench.core.errors import BadInput
from vbench.victims.layers import STAGES, NonLocal, gem_pool, l2_normalise
from vbench.victims.losses import weighted_regularised_triplet
from vbench.victims.staged import TwoStreamTrunk


def test_non_local_equals_the_sum_over_positions():
    generator = torch.Generator().manual_seed(0)
    block = NonLocal(3, inner=2).double().eval()
    with torch.no_grad():
        for tensor in block.state_dict().values():
            if tensor.is_floating_point():
                tensor.uniform_(0.2, 1.0, generator=generator)
    features = torch.randn(2, 3, 2, 3, dtype=torch.float64, generator=generator)

    def project(conv, vector):
        return conv.weight[:, :, 0, 0] @ vector + conv.bias

    expected = features.clone()
    positions = [(row, column) for row in range(2) for column in range(3)]
    for image in range(2):
        for row, column in positions:
            here = features[image, :, row, column]
            y = torch.zeros(2, dtype=torch.float64)
            for other_row, other_column in positions:
                there = features[image, :, other_row, other_column]
                score = project(block.theta, here) @ project(block.phi, there) / len(positions)
                y += score * project(block.g, there)
            z, bn = project(block.project, y), block.norm
            z = (z - bn.running_mean) / (bn.running_var + bn.eps).sqrt() * bn.weight + bn.bias
            expected[image, :, row, column] += z
    torch.testing.assert_close(block(features), expected)


def test_gem_has_its_closed_form():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 0.0]], [[5.0, 5.0], [5.0, 5.0]]]])
    torch.testing.assert_close(gem_pool(features), torch.tensor([[(36 / 4) ** (1 / 3), 5.0]]))
    torch.testing.assert_close(gem_pool(features, p=1.0), torch.tensor([[1.5, 5.0]]))


def test_gem_of_a_dead_channel_is_small_and_differentiable():
    features = torch.zeros(1, 1, 2, 2, requires_grad=True)
    pooled = gem_pool(features)
    torch.testing.assert_close(pooled, torch.full((1, 1), 1e-4))
    pooled.sum().backward()
    assert features.grad.isfinite().all()


def test_l2_normalise():
    vectors = torch.tensor([[3.0, 4.0], [0.0, -2.0], [0.0, 0.0]])
    unit = l2_normalise(vectors)
    torch.testing.assert_close(unit[:2], torch.tensor([[0.6, 0.8], [0.0, -1.0]]))
    assert unit[2].isnan().all()


def test_trunk_at_full_width_is_resnet50_with_last_stride_one():
    trunk = TwoStreamTrunk()
    reference = torchvision.models.resnet50(weights=None)
    reference.layer4[0].conv2.stride = reference.layer4[0].downsample[0].stride = (1, 1)
    state = reference.state_dict()
    for stem in (trunk.visible_stem, trunk.infrared_stem):
        stem.load_state_dict({k: v for k, v in state.items() if k.split(".")[0] in ("conv1", "bn1")})
    for stage in STAGES:
        getattr(trunk, stage).load_state_dict(getattr(reference, stage).state_dict())
    trunk.eval(), reference.eval()
    images = torch.randn(1, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference.maxpool(reference.relu(reference.bn1(reference.conv1(images))))
        current = trunk.visible_stem(images)
        for stage in STAGES:
            expected, current = getattr(reference, stage)(expected), trunk.stage(stage, current)
            assert torch.equal(current, expected)
    assert current.shape == (1, 2048, 4, 2)


def test_triplet_equals_the_triple_loop():
    vectors = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 0, 2, 1, 2, 2])

    def d(i, j):
        return math.sqrt(
            sum((a - b) ** 2 for a, b in zip(vectors[i].tolist(), vectors[j].tolist(), strict=True))
        )

    total = 0.0
    for i in range(7):
        positive = [d(i, j) for j in range(7) if labels[j] == labels[i] and j != i]
        negative = [d(i, k) for k in range(7) if labels[k] != labels[i]]
        far = sum(x * math.exp(x) for x in positive) / sum(math.exp(x) for x in positive)
        near = sum(x * math.exp(-x) for x in negative) / sum(math.exp(-x) for x in negative)
        total += math.log(1 + math.exp(far - near))
    assert weighted_regularised_triplet(vectors, labels).item() == pytest.approx(total / 7, rel=1e-9)


def test_triplet_gradient_is_right_and_finite_where_vectors_coincide():
    labels = torch.tensor([0, 0, 1, 1])
    vectors = torch.randn(
        4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    ).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: weighted_regularised_triplet(x, labels), vectors)
    same = torch.ones(4, 3, requires_grad=True)
    weighted_regularised_triplet(same, labels).backward()
    assert same.grad.isfinite().all()


@pytest.mark.parametrize("labels", [[0, 0, 1], [0, 0, 0]])
def test_triplet_needs_a_positive_and_a_negative_for_every_anchor(labels):
    with pytest.raises(BadInput, match="two images"):
        weighted_regularised_triplet(torch.zeros(3, 2), torch.tensor(labels))
