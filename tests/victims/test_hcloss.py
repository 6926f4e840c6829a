"""HCLoss against the paper's network and loss written out, under the released names."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from two_stream_oracle import batch_norm, block, cross_entropy, normalised
from victim_checks import check_refused, misfits, sampled_state, untrained

from vbench.core.types import Modality
from vbench.victims.hcloss import HCLoss, stripes
from vbench.victims.load import load_victim
from vbench.victims.losses import hetero_center
from vbench.victims.training.recipe import TrainBatch

BOTH = list(Modality)
TINY = {"width": 0.0625, "blocks": (1, 2, 1, 1), "input_size": (112, 32)}
NETS = {Modality.VISIBLE: "visible_net.visible", Modality.INFRARED: "thermal_net.thermal"}
CLASSES, DIM, WIDE, ROWS = 5, 7, 128, 7


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def state():
    """Random tensors under the names of the authors' file, at a sixteenth of the width."""
    resnet = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, list(TINY["blocks"]))
    shapes = {
        f"{net}.{name}": [max(1, n // 16) if n >= 64 else n for n in tensor.shape]
        for net in NETS.values()
        for name, tensor in resnet.state_dict().items()
    }
    for n in range(1, 7):
        shapes |= {f"feature{n}.feat_block.0.weight": (DIM, WIDE), f"feature{n}.feat_block.0.bias": (DIM,)}
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"feature{n}.feat_block.1.{part}"] = (DIM,)
        shapes[f"feature{n}.feat_block.1.num_batches_tracked"] = ()
        shapes[f"classifier{n}.classifier.1.weight"] = (CLASSES, DIM)
        shapes[f"classifier{n}.classifier.1.bias"] = (CLASSES,)
    return sampled_state(shapes, seeded(0), 0.1)


@pytest.fixture(scope="module")
def victim(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("hcloss") / "sysu_best.t"
    torch.save({"net": state, "epoch": 60}, path)
    return load_victim("hcloss", path, device="cpu", **TINY)


@pytest.fixture
def images():
    return torch.rand(3, 3, *TINY["input_size"], generator=seeded(2))


def maps(state, images, modality):
    net = NETS[modality]
    x = F.conv2d(normalised(images), state[f"{net}.conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(torch.relu(batch_norm(state, f"{net}.bn1", x)), 3, stride=2, padding=1)
    found = {"stem": x}
    for stage, count, stride in zip((1, 2, 3, 4), TINY["blocks"], (1, 2, 2, 1), strict=True):
        for index in range(count):
            x = block(state, f"{net}.layer{stage}.{index}", x, stride if index == 0 else 1)
        found[f"layer{stage}"] = x
    return found


def parts(x):
    """The six pooled vectors as the authors' average pooling has them."""
    step = x.shape[2] // 6
    size = (x.shape[2] - step * 5, x.shape[3])
    return F.avg_pool2d(x, size, stride=(step, x.shape[3])).flatten(2).unbind(2)


def unit(x):
    return x / x.square().sum(1, keepdim=True).sqrt()


def reduced(state, vectors):
    found = []
    for n, vector in enumerate(vectors, 1):
        weight, bias = (state[f"feature{n}.feat_block.0.{part}"] for part in ("weight", "bias"))
        found.append(batch_norm(state, f"feature{n}.feat_block.1", vector @ weight.T + bias))
    return found


def logits_of(state, vectors):
    found = []
    for n, vector in enumerate(vectors, 1):
        weight, bias = (state[f"classifier{n}.classifier.1.{part}"] for part in ("weight", "bias"))
        found.append(torch.where(vector > 0, vector, 0.1 * vector) @ weight.T + bias)
    return found


@pytest.mark.parametrize("modality", BOTH)
def test_a_released_file_gives_the_networks_own_vectors(victim, state, images, modality):
    stages = maps(state, images, modality)
    assert stages["layer4"].shape[2] == ROWS, "stripes overlap"
    pooled = parts(stages["layer4"])
    local = reduced(state, pooled)
    output = victim(images, modality)
    for stage, expected in stages.items():
        torch.testing.assert_close(output.features[stage], expected, rtol=1e-4, atol=1e-5)
    for name, vectors in (("pooled", pooled), ("local", local)):
        expected = torch.cat([unit(one) for one in vectors], dim=1)
        torch.testing.assert_close(output.parts[name], expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(output.embedding, output.parts["local"])
    assert output.embedding.shape[1] == victim.embedding_dim == 6 * DIM
    expected = sum(logits_of(state, local)) / 6
    torch.testing.assert_close(output.logits, expected, rtol=1e-4, atol=1e-5)


def test_modalities_share_no_stage(victim, images):
    first, second = (victim(images, modality).features["stem"] for modality in BOTH)
    assert not torch.allclose(first, second)
    trunks = [set(trunk.parameters()) for trunk in (victim.visible, victim.infrared)]
    assert not trunks[0] & trunks[1]


def test_full_size_has_the_parameters_of_the_released_file():
    with torch.device("meta"):
        resnet = torchvision.models.resnet50()
    trunk = sum(p.numel() for p in resnet.parameters()) - 2048 * 1000 - 1000
    heads = 6 * (2048 * 512 + 512 + 2 * 512 + 512 * 395 + 395)
    own = HCLoss()
    assert sum(p.numel() for p in own.parameters()) == 2 * trunk + heads
    assert own.embedding_dim == 6 * 512 and own.input_size == (288, 144)
    assert HCLoss(num_classes=2, embedding="pooled", **HCLoss.THIN).embedding_dim == 6 * 128


@pytest.mark.parametrize("rows", [6, 7, 11, 12, 18, 24])
def test_stripes_are_the_authors_average_pooling(rows):
    x = torch.rand(2, 3, rows, 4, generator=seeded(rows), dtype=torch.float64)
    torch.testing.assert_close(stripes(x), torch.stack(parts(x), dim=2))


def test_a_low_map_is_one_stripe():
    x = torch.rand(2, 3, 4, 2, generator=seeded(4))
    expected = x.mean(dim=(2, 3))[:, :, None].expand(-1, -1, 6)
    torch.testing.assert_close(stripes(x), expected)


@misfits(
    (lambda s: s.pop("classifier1.classifier.1.weight"), "no identity classifier"),
    missing=["thermal_net.thermal.layer3.0.conv1.weight", "feature3.feat_block.0.bias"],
    unexpected=["gate"],
    misshaped=["feature2.feat_block.1.bias"],
)
def test_a_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(HCLoss, state, change, message, tmp_path / "h.t", device="cpu", **TINY)


def literal_hetero_center(visible, infrared, labels):
    total = 0.0
    for identity in set(labels):
        rows = [n for n, label in enumerate(labels) if label == identity]
        for d in range(visible.shape[1]):
            first, second = (
                sum(vectors[n, d].item() for n in rows) / len(rows) for vectors in (visible, infrared)
            )
            total += (first - second) ** 2
    return total


def test_hetero_center_equals_the_loop_and_has_its_gradient():
    labels = torch.tensor([0, 2, 0, 1, 2, 2])
    visible, infrared = torch.randn(2, 6, 4, dtype=torch.float64, generator=seeded(6))
    found = hetero_center(visible, infrared, labels)
    assert found.item() == pytest.approx(literal_hetero_center(visible, infrared, labels.tolist()))
    assert torch.autograd.gradcheck(lambda x: hetero_center(x, infrared, labels), visible.requires_grad_())


def test_hetero_center_sees_centers_alone():
    labels = torch.tensor([0, 0, 1, 1])
    visible, infrared = torch.randn(2, 4, 3, dtype=torch.float64, generator=seeded(7))
    whole = hetero_center(visible, infrared, labels)
    moved = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]], dtype=torch.float64)
    torch.testing.assert_close(hetero_center(visible + moved, infrared, labels), whole)
    torch.testing.assert_close(hetero_center(infrared + 3, visible + 3, labels), whole)
    assert hetero_center(visible, visible.flip(0), labels.new_zeros(4)).item() == pytest.approx(0, abs=1e-12)


def test_losses_equal_the_objective_written_out(victim, state):
    size = TINY["input_size"]
    visible, infrared = (torch.rand(4, 3, *size, generator=seeded(n)) for n in (8, 9))
    labels = torch.tensor([0, 0, 3, 3])
    batch = TrainBatch(visible, infrared, labels, seeded(10), instances=2, label_smoothing=0.1)
    losses = victim.training_losses(batch)
    halves = [
        victim.training_losses(replace(batch, epoch=epoch, epochs=8))["hetero_center"]
        for epoch in (0, 3, 5, 7)
    ]
    torch.testing.assert_close(torch.stack(halves) / losses["hetero_center"], torch.tensor([0, 0, 0.5, 1]))
    pooled = [
        parts(maps(state, images, modality)["layer4"])
        for images, modality in zip((visible, infrared), BOTH, strict=True)
    ]
    local = reduced(state, [torch.cat(both) for both in zip(*pooled, strict=True)])
    both = torch.cat((labels, labels))
    identity = sum(cross_entropy(logits, both, 0.1) for logits in logits_of(state, local))
    centers = sum(
        literal_hetero_center(*unit(vectors).detach().chunk(2), labels.tolist()) for vectors in local
    )
    assert set(losses) == {"identity", "hetero_center"}
    torch.testing.assert_close(losses["identity"], identity, rtol=1e-4, atol=0)
    assert losses["hetero_center"].item() == pytest.approx(centers / 2, rel=1e-3)


def test_training_reaches_every_parameter_and_only_the_given_generator():
    victim = HCLoss(num_classes=4, width=0.0625, blocks=(1, 1, 1, 1), dim=8, input_size=(96, 32)).train()
    before = torch.get_rng_state()
    labels = torch.tensor([0, 0, 3, 3])
    visible, infrared = (torch.rand(4, 3, 96, 32, generator=seeded(n)) for n in (11, 12))
    assert untrained(victim, TrainBatch(visible, infrared, labels, seeded(13), instances=2)) == []
    assert torch.equal(torch.get_rng_state(), before)


def test_the_published_recipe():
    victim = HCLoss(num_classes=2)
    recipe = victim.recipe()
    assert (recipe.identities, recipe.instances, recipe.learning_rate) == (4, 8, 0.01)
    assert (recipe.epochs, recipe.milestones, recipe.trunk_rate) == (61, (30, 60), 0.1)
    nothing = torch.zeros(0)
    first = TrainBatch(nothing, nothing, nothing, seeded(0), instances=2, epoch=0, epochs=61)
    assert victim._center_weight(first) == 0.5
