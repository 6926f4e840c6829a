"""AGW as other parts rely on it: what goes in, what comes out, what stays untouched."""

from __future__ import annotations

import json

import pytest
import torch
from victim_checks import untrained

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.agw import AGW
from vbench.victims.base import frozen
from vbench.victims.training.recipe import TrainBatch

TINY = {"num_classes": 5, "width": 0.0625, "blocks": (1, 2, 3, 1), "small_stem": True, "input_size": (32, 16)}
BOTH = [Modality.VISIBLE, Modality.INFRARED]


@pytest.fixture
def victim():
    """A small AGW whose batch statistics and added blocks are no longer at their neutral start."""
    agw = AGW(**TINY)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for blocks in agw.non_local.values():
            for block in blocks:
                block.norm.weight.uniform_(0.1, 0.3, generator=generator)
        agw.train()
        for modality in BOTH:
            agw(torch.rand(8, 3, 32, 16, generator=generator), modality)
    return agw.eval()


@pytest.fixture
def images():
    return torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("modality", BOTH)
def test_output_has_the_declared_shapes(victim, images, modality):
    output = victim(images, modality)
    assert output.embedding.shape == (3, victim.embedding_dim)
    assert output.logits.shape == (3, 5)
    assert tuple(output.features) == victim.stages
    torch.testing.assert_close(output.embedding.norm(dim=1), torch.ones(3))


def test_stage_maps_follow_the_strides_of_the_paper():
    full = AGW(num_classes=2, width=0.0625, input_size=(64, 32)).eval()
    features = full(torch.rand(1, 3, 64, 32), Modality.VISIBLE).features
    sizes = {stage: tuple(map_.shape[2:]) for stage, map_ in features.items()}
    assert sizes == {"stem": (16, 8), "layer1": (16, 8), "layer2": (8, 4), "layer3": (4, 2), "layer4": (4, 2)}


def test_thin_preset_keeps_every_part_of_the_full_network():
    thin = AGW(num_classes=2, **AGW.THIN).eval()
    features = thin(torch.rand(1, 3, *thin.input_size), Modality.VISIBLE).features
    shapes = [tuple(map_.shape[1:]) for map_ in features.values()]
    assert shapes == [(16, 32, 16), (16, 32, 16), (32, 16, 8), (64, 8, 4), (128, 8, 4)]
    assert set(thin.non_local) == {"layer2", "layer3"}
    assert sum(parameter.numel() for parameter in thin.parameters()) < 400_000


def test_modalities_use_different_stems_and_shared_stages(victim, images):
    visible, infrared = (victim(images, modality).embedding for modality in BOTH)
    assert not torch.allclose(visible, infrared)
    victim.trunk.infrared_stem.load_state_dict(victim.trunk.visible_stem.state_dict())
    assert torch.equal(victim(images, Modality.INFRARED).embedding, visible)


def test_input_is_not_modified(victim, images):
    before = images.clone()
    victim(images, Modality.VISIBLE)
    assert torch.equal(images, before)


def test_normalisation_is_inside(victim, images):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (images - mean[:, None, None]) / std[:, None, None]
    expected = victim.trunk.visible_stem(normalised)
    torch.testing.assert_close(victim(images, Modality.VISIBLE).features["stem"], expected)


def test_features_are_the_maps_that_the_next_stage_sees(victim, images):
    features = victim(images, Modality.VISIBLE).features
    current = features["stem"].clone()
    for stage in victim.stages[1:]:
        current = victim.shared_stage(stage, current)
        assert torch.equal(current, features[stage]), stage


def test_logits_come_from_the_neck_and_the_embedding_is_its_direction(victim, images):
    output = victim(images, Modality.VISIBLE)
    layer4 = output.features["layer4"]
    pooled = ((layer4**3).mean(dim=(2, 3)) + 1e-12) ** (1 / 3)
    neck = victim.neck
    expected = (pooled - neck.running_mean) / (neck.running_var + neck.eps).sqrt() * neck.weight + neck.bias
    torch.testing.assert_close(output.logits, expected @ victim.classifier.weight.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        output.embedding, torch.nn.functional.normalize(expected), rtol=1e-4, atol=1e-5
    )
    victim.embedding = "pooled"
    pooled_out = victim(images, Modality.VISIBLE).embedding
    torch.testing.assert_close(pooled_out, torch.nn.functional.normalize(pooled), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stage", AGW.stages)
def test_identity_edit_changes_nothing_and_a_real_one_does(victim, images, stage):
    plain = victim(images, Modality.INFRARED)
    same = victim(images, Modality.INFRARED, {stage: lambda features: features})
    assert torch.equal(plain.embedding, same.embedding)
    edited = victim(images, Modality.INFRARED, {stage: lambda features: features.flip(3) * 0.5})
    assert torch.equal(edited.features[stage], plain.features[stage].flip(3) * 0.5)
    assert not torch.allclose(edited.embedding, plain.embedding)


def test_edit_that_changes_the_shape_is_refused(victim, images):
    with pytest.raises(BadInput, match="layer2 changed its shape"):
        victim(images, Modality.VISIBLE, {"layer2": lambda features: features[:, :1]})


def test_unknown_stage_names_the_nearest(victim, images):
    with pytest.raises(BadInput, match="did you mean 'layer3'"):
        victim(images, Modality.VISIBLE, {"layer_3": lambda features: features})


@pytest.mark.parametrize("shape", [(3, 32, 16), (1, 1, 32, 16), (1, 3, 16, 32)])
def test_images_of_another_shape_are_refused(victim, shape):
    with pytest.raises(BadInput, match="images must be N x 3 x 32 x 16"):
        victim(torch.zeros(shape), Modality.VISIBLE)


@pytest.mark.parametrize("modality", BOTH)
def test_gradient_reaches_the_image_and_matches_finite_differences(victim, modality):
    victim = victim.double()
    image = torch.rand(1, 3, 32, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    direction = torch.randn(
        victim.embedding_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(4)
    )

    def score(x):
        return (victim(x, modality, {"layer1": lambda f: f * 1.5}).embedding @ direction).sum()

    image.requires_grad_()
    (gradient,) = torch.autograd.grad(score(image), image)
    step = torch.randn(image.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    h = 1e-7
    with torch.no_grad():
        numeric = (score(image + h * step) - score(image - h * step)) / (2 * h)
    assert gradient.abs().max() > 0
    torch.testing.assert_close((gradient * step).sum(), numeric, rtol=1e-4, atol=1e-8)


def test_gradient_reaches_a_parameter_used_in_an_edit(victim, images):
    scale = torch.ones((), requires_grad=True)
    output = victim(images, Modality.VISIBLE, {"layer3": lambda features: features * scale.sigmoid()})
    (gradient,) = torch.autograd.grad(output.logits.square().sum(), scale)
    assert gradient.abs() > 0


def test_batch_size_does_not_matter_in_evaluation(victim, images):
    together = victim(images, Modality.VISIBLE).embedding
    alone = torch.cat([victim(image[None], Modality.VISIBLE).embedding for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_non_local_blocks_sit_after_the_last_blocks_of_layer2_and_layer3(images):
    counts = {(3, 4, 6, 3): (2, 3), (1, 1, 1, 1): (1, 1), (1, 2, 2, 1): (2, 2)}
    for blocks, expected in counts.items():
        agw = AGW(**{**TINY, "blocks": blocks})
        assert (len(agw.non_local["layer2"]), len(agw.non_local["layer3"])) == expected
    agw = AGW(**{**TINY, "blocks": (3, 4, 6, 3)})
    seen = []
    for number, block in enumerate(agw.trunk.layer3):
        block.register_forward_hook(lambda *_, number=number: seen.append(f"block {number}"))
    for number, block in enumerate(agw.non_local["layer3"]):
        block.register_forward_hook(lambda *_, number=number: seen.append(f"added {number}"))
    agw.eval()(images, Modality.VISIBLE)
    assert seen[2:] == ["block 2", "block 3", "added 0", "block 4", "added 1", "block 5", "added 2"]


def test_description_rebuilds_the_victim(victim, images):
    options = json.loads(json.dumps(victim.describe()))
    again = AGW(**options)
    again.load_state_dict(victim.state_dict())
    assert again.describe() == victim.describe()
    assert torch.equal(again.eval()(images, BOTH[0]).embedding, victim(images, BOTH[0]).embedding)


def test_same_generator_seed_gives_the_same_weights_and_the_global_state_is_untouched():
    before = torch.get_rng_state()
    first, second, other, default = (
        AGW(**TINY, generator=torch.Generator().manual_seed(seed)) if seed is not None else AGW(**TINY)
        for seed in (7, 7, 8, None)
    )
    assert torch.equal(torch.get_rng_state(), before)
    weight = "trunk.layer3.0.conv2.weight"
    assert torch.equal(first.state_dict()[weight], second.state_dict()[weight])
    assert not torch.equal(first.state_dict()[weight], other.state_dict()[weight])
    assert torch.equal(default.state_dict()[weight], AGW(**TINY).state_dict()[weight])
    assert all(tensor.isfinite().all() for tensor in first.state_dict().values())


def test_frozen_restores_everything_after_an_exception(victim, images):
    victim.train()
    victim.trunk.layer1.eval()
    victim.neck.weight.requires_grad_(False)
    flags = [module.training for module in victim.modules()]
    wanted = [parameter.requires_grad for parameter in victim.parameters()]
    state = {name: tensor.clone() for name, tensor in victim.state_dict().items()}
    with pytest.raises(ZeroDivisionError), frozen(victim):
        assert not any(module.training for module in victim.modules())
        assert not any(parameter.requires_grad for parameter in victim.parameters())
        victim.train()
        victim(images, Modality.VISIBLE)
        assert not torch.equal(victim.neck.running_mean, state["neck.running_mean"])
        raise ZeroDivisionError
    assert [module.training for module in victim.modules()] == flags
    assert [parameter.requires_grad for parameter in victim.parameters()] == wanted
    assert all(torch.equal(tensor, state[name]) for name, tensor in victim.state_dict().items())
    assert all(parameter.grad is None for parameter in victim.parameters())


def test_training_losses_see_both_modalities_as_one_batch(victim):
    generator = torch.Generator().manual_seed(6)
    visible, infrared = (
        torch.rand(4, 3, 32, 16, generator=generator),
        torch.rand(4, 3, 32, 16, generator=generator),
    )
    labels = torch.tensor([0, 0, 1, 1])
    victim.train()
    counted = victim.neck.num_batches_tracked.clone()
    batch = TrainBatch(visible, infrared, labels, generator, instances=2)
    assert set(victim.training_losses(batch)) == {"identity", "triplet"}
    assert victim.neck.num_batches_tracked == counted + 1
    # Scores theta.phi may vanish for a whole batch only if the block is dead, which would be a defect.
    assert untrained(victim, batch) == []
    assert victim.neck.bias.grad is None
