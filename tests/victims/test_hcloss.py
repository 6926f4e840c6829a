"""The hetero-center loss and its network, against transcriptions of the published formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.hcloss import HCLoss, hetero_center
from vbench.victims.training.recipe import TrainBatch

TINY = {"num_classes": 4, "width": 0.0625, "blocks": (1, 1, 1, 1), "block": "basic"}


@pytest.fixture(scope="module")
def victim():
    return HCLoss(**TINY, input_size=(288, 32)).double()


def images(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, 288, 32, generator=generator, dtype=torch.float64)


def test_the_loss_is_the_squared_distance_of_the_centers_summed_over_identities():
    generator = torch.Generator().manual_seed(1)
    visible, infrared = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = 0.0
    for start in (0, 2, 4):
        center = visible[start : start + 2].mean(0) - infrared[start : start + 2].mean(0)
        expected += sum(number**2 for number in center.tolist())
    found = hetero_center(visible, infrared, torch.tensor([0, 0, 1, 1, 2, 2]))
    assert found.item() == pytest.approx(expected)


def test_stripes_are_the_means_of_a_sixth_of_the_rows_and_pass_their_own_layers(victim):
    victim.eval()
    with torch.no_grad():
        output = victim(images(2), Modality.VISIBLE)
    last = output.features["layer4"]
    assert last.shape[2] == 18
    expected, logits = [], []
    for part in range(6):
        linear, norm = victim.linear[part]
        pooled = last[:, :, 3 * part : 3 * part + 3].mean((2, 3))
        vector = F.linear(pooled, linear.weight, linear.bias)
        vector = (vector - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        vector = vector * norm.weight + norm.bias
        expected.append(vector / vector.norm(dim=1, keepdim=True))
        classify = victim.classifiers[part][1]
        logits.append(torch.where(vector > 0, vector, 0.1 * vector) @ classify.weight.T + classify.bias)
    torch.testing.assert_close(output.embedding, torch.cat(expected, 1))
    torch.testing.assert_close(output.logits, sum(logits) / 6)


def test_the_training_losses_are_those_of_the_six_stripes_summed(victim):
    victim.train()
    labels = torch.tensor([0, 0, 1, 1])
    batch = TrainBatch(images(4, 2), images(4, 3), labels, torch.Generator(), 2)
    found = victim.training_losses(batch)
    maps = []
    for modality, pictures in ((Modality.VISIBLE, batch.visible), (Modality.INFRARED, batch.infrared)):
        maps.append(victim(pictures, modality).features["layer4"])
    last = torch.cat(maps)
    identity, center = 0.0, 0.0
    for part in range(6):
        vectors = victim.linear[part](last[:, :, 3 * part : 3 * part + 3].mean((2, 3)))
        identity += F.cross_entropy(victim.classifiers[part](vectors), labels.repeat(2)).item()
        unit = F.normalize(vectors, dim=1)
        for label in (0, 1):
            rows = labels == label
            center += (unit[:4][rows].mean(0) - unit[4:][rows].mean(0)).square().sum().item()
    assert found["identity"].item() == pytest.approx(identity)
    assert found["hetero_center"].item() == pytest.approx(0.5 * center)


def test_the_modalities_share_no_stage(victim):
    assert len({id(victim.trunks[modality.value].layer4) for modality in Modality}) == 2
    before = victim.eval()(images(1), Modality.VISIBLE).embedding
    with torch.no_grad():
        victim.trunks["infrared"].layer3[0].conv1.weight.add_(1)
    assert torch.equal(victim(images(1), Modality.VISIBLE).embedding, before)


def test_too_low_images_are_refused():
    with pytest.raises(BadInput, match="too few for six stripes"):
        HCLoss(**TINY, input_size=(64, 32))
