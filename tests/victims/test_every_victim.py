"""What every built-in victim owes to attacks, runner and reports, whatever its network is."""

from __future__ import annotations

import inspect
import json

import pytest
import torch

from vbench.core.errors import BadInput
from vbench.core.types import SIMILARITIES, Modality
from vbench.victims.base import frozen
from vbench.victims.checkpoint import sha256_of, write_checkpoint
from vbench.victims.load import load_victim
from vbench.victims.registry import VICTIMS, victims
from vbench.victims.training.recipe import Recipe, TrainBatch

BOTH = list(Modality)
CLASSES = 5
#: Where and when each paper came out, by its own title page.
PUBLISHED = {
    "hcloss": "Neurocomputing 2020",
    "agw": "TPAMI 2022",
    "caj": "ICCV 2021",
    "ddag": "ECCV 2020",
    "mmn": "ACM MM 2021",
    "deen": "CVPR 2023",
    "mpanet": "CVPR 2021",
    "pmt": "AAAI 2023",
    "mrcn": "AAAI 2023",
}


def named(**options):
    """Options that are refused each by its name."""
    return [({name: value}, name) for name, value in options.items()]


#: Options that are refused, and what the message says.
REFUSED = {
    "hcloss": [({"embedding": "locl"}, "did you mean 'local'"), *named(dim=0, num_classes=0)],
    "agw": [
        ({"embedding": "nek"}, "did you mean 'neck'"),
        ({"block": "basik"}, "did you mean 'basic'"),
        *named(num_classes=0, blocks=(1, 1, 1), width=0.001, input_size=(8, 8)),
        *named(blocks=(1, 0, 1, 1)),
    ],
    "ddag": [
        ({"embedding": "atention"}, "did you mean 'attention'"),
        *named(part_count=0, graph_heads=0, graph_width=0, graph_dropout=1.0),
    ],
    "mmn": [
        ({"embedding": "midle"}, "did you mean 'middle'"),
        ({"input_size": (32, 32), "small_stem": False}, "2 rows in the last map"),
        ({"input_size": (144, 32), "small_stem": False}, "9 rows in the last map"),
    ],
    "deen": [
        ({"embedding": "weigthed"}, "did you mean 'weighted'"),
        ({"variant": "sisu"}, "did you mean 'sysu'"),
        ({"input_size": (48, 48), "small_stem": False}, "a map of 3 x 3 positions"),
    ],
    "mpanet": [
        ({"embedding": "nek"}, "did you mean 'neck'"),
        ({"variant": "regbd"}, "did you mean 'regdb'"),
        ({"parts": 1}, "parts must be at least 2"),
        ({"input_size": (16, 16), "small_stem": False}, "at least 32 pixels"),
    ],
    "pmt": [
        ({"embedding": "nek"}, "did you mean 'neck'"),
        ({"heads": 5}, "width must be a multiple of heads"),
        ({"depth": 5}, "depth must be at least 6"),
        ({"patch": 29}, "patch must lie between"),
        ({"dropout": 1.0}, r"dropout must lie in \[0, 1\)"),
        ({"drop_path": -0.1}, r"drop_path must lie in \[0, 1\)"),
        *named(stride=0, mlp_ratio=0.01, stem_channels=-1, num_classes=0, input_size=(8, 8)),
    ],
    "mrcn": [
        ({"embedding": "nek"}, "did you mean 'neck'"),
        ({"place": "layer_1"}, "did you mean 'layer1'"),
        ({"place": "layer4"}, "place of mrcn"),
        ({"place": "layer3", "input_size": (16, 16), "small_stem": False}, "at least 32 pixels"),
    ],
}


def thin(name, **options):
    cls = victims.load(name)
    return cls(**{"num_classes": CLASSES, **cls.THIN, "input_size": (64, 32), **options})


def pictures(count=3, seed=0, dtype=torch.float32):
    return torch.rand(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def training_batch(recipe, seed=0, identities=4, instances=2):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(identities).repeat_interleave(instances)
    count = len(labels)
    visible = torch.rand(recipe.visible_views * count, 3, 64, 32, generator=generator)
    infrared = torch.rand(count, 1, 64, 32, generator=generator).expand(-1, 3, -1, -1)
    return TrainBatch(visible, infrared, labels, generator, instances, epoch=10, epochs=20)


@pytest.fixture(scope="module", params=list(VICTIMS))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def victim(name):
    """A thin victim whose batch statistics and zero-started tensors are no longer neutral."""
    built, generator = thin(name), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for key, tensor in built.state_dict().items():
            if key.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif key.endswith("running_mean"):
                tensor.normal_(0, 0.05, generator=generator)
            elif tensor.is_floating_point() and not tensor.any():
                tensor.normal_(0, 0.1, generator=generator)
    return built.eval()


def test_outputs_are_of_the_declared_shapes_and_finite(victim):
    assert victim.similarity in SIMILARITIES
    for modality in BOTH:
        with torch.no_grad():
            output = victim(pictures(), modality)
        assert output.embedding.shape == (3, victim.embedding_dim)
        assert output.logits.shape == (3, CLASSES)
        assert output.embedding.isfinite().all() and output.logits.isfinite().all()
        assert tuple(output.features) == victim.stages
        assert all(f.ndim == 4 and len(f) == 3 for f in output.features.values())
        assert output.parts and all(part.ndim == 2 and len(part) == 3 for part in output.parts.values())


def test_stages_carry_the_names_an_attack_counts_on(victim):
    assert victim.stages == ("stem", "layer1", "layer2", "layer3", "layer4")


@pytest.fixture
def exact(victim):
    """The victim in float64: sums in another order, as of other processors and batches, do not show."""
    yield victim.double()
    victim.float()


def test_rows_belong_to_images_whatever_the_batch(exact):
    victim, images = exact, pictures(4, dtype=torch.float64)
    with torch.no_grad():
        together = victim(images, Modality.INFRARED)
        for row in (0, 3):
            alone = victim(images[row : row + 1], Modality.INFRARED)
            torch.testing.assert_close(together.embedding[row], alone.embedding[0], rtol=1e-4, atol=1e-5)
            for stage, features in together.features.items():
                torch.testing.assert_close(features[row], alone.features[stage][0], rtol=1e-4, atol=1e-4)


def test_edits_reach_every_stage_and_the_row_they_mean(victim):
    images = pictures()
    with torch.no_grad():
        plain = victim(images, Modality.VISIBLE)
        for stage in victim.stages:
            same = victim(images, Modality.VISIBLE, {stage: lambda features: features.clone()})
            assert torch.equal(same.embedding, plain.embedding), stage

            def spoil_second(features):
                keep = torch.ones(len(features), 1, 1, 1)
                keep[1] = -0.5
                return features * keep + (1 - keep) * features.roll(1, 1)

            edited = victim(images, Modality.VISIBLE, {stage: spoil_second})
            assert torch.equal(edited.features[stage], spoil_second(plain.features[stage]))
            assert torch.equal(edited.embedding[[0, 2]], plain.embedding[[0, 2]]), stage
            assert not torch.allclose(edited.embedding[1], plain.embedding[1], atol=1e-4), stage
        with pytest.raises(BadInput, match="layer2 changed its shape"):
            victim(images, Modality.VISIBLE, {"layer2": lambda features: features[:, :1]})
        with pytest.raises(BadInput, match="layer2 changed its shape"):
            victim(images, Modality.VISIBLE, {"layer2": lambda features: features[:2]})


def test_an_edit_can_fork_the_pass(exact):
    """Two maps of every image at one stage, and edits of both after it, are two passes."""
    victim, images = exact, pictures(dtype=torch.float64)
    assert victim.forks
    paths = (lambda features: features * 0.9, lambda features: features.roll(1, 1))
    with torch.no_grad():
        for modality, at in ((m, at) for m in BOTH for at in victim.stages):
            later = dict.fromkeys(victim.stages[victim.stages.index(at) + 1 :], torch.relu)

            def fork(features):
                return torch.cat([path(features) for path in paths])

            both = victim(images, modality, {at: fork, **later})
            one, two = (victim(images, modality, {at: path, **later}) for path in paths)
            torch.testing.assert_close(both.embedding, torch.cat([one.embedding, two.embedding]))
            torch.testing.assert_close(both.logits, torch.cat([one.logits, two.logits]), rtol=1e-5, atol=1e-5)
            for stage in victim.stages[victim.stages.index(at) :]:
                expected = torch.cat([one.features[stage], two.features[stage]])
                torch.testing.assert_close(both.features[stage], expected, rtol=1e-5, atol=1e-5)


def test_gradient_reaches_the_image_and_is_right(victim):
    victim = victim.double()
    try:
        image = pictures(1, seed=3, dtype=torch.float64).requires_grad_()
        generator = torch.Generator().manual_seed(4)
        direction = torch.randn(victim.embedding_dim, dtype=torch.float64, generator=generator)
        step = torch.randn(image.shape, dtype=torch.float64, generator=generator)
        with frozen(victim):
            (gradient,) = torch.autograd.grad((victim(image, BOTH[1]).embedding @ direction).sum(), image)
            with torch.no_grad():
                ends = [victim(image + h * step, BOTH[1]).embedding @ direction for h in (1e-7, -1e-7)]
        expected = (gradient * step).sum()
        assert expected.abs() > 0
        torch.testing.assert_close((ends[0] - ends[1])[0] / 2e-7, expected, rtol=2e-3, atol=1e-8)
    finally:
        victim.float()


def test_input_and_global_random_state_are_left_alone(name):
    before, images = torch.get_rng_state(), pictures()
    copy = images.clone()
    first, second = (thin(name, generator=torch.Generator().manual_seed(s)) for s in (7, 7))
    assert sha256_of(first.state_dict()) == sha256_of(second.state_dict())
    assert sha256_of(first.state_dict()) != sha256_of(thin(name).state_dict())
    first.eval()(images, Modality.VISIBLE)
    first.train().training_losses(training_batch(first.recipe()))
    assert torch.equal(images, copy)
    assert torch.equal(torch.get_rng_state(), before)


def test_description_and_own_file_rebuild_the_victim(victim, name, tmp_path):
    options = json.loads(json.dumps(victim.describe()))
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, victim.state_dict(), {"victim": name, "options": options})
    again = load_victim(name, path, device="cpu")
    assert again.describe() == victim.describe()
    with torch.no_grad():
        assert torch.equal(again(pictures(), BOTH[0]).embedding, victim(pictures(), BOTH[0]).embedding)


def test_every_setting_of_the_embedding_works_and_is_kept(victim, name, tmp_path):
    cls = victims.load(name)
    assert set(cls.SETTINGS) & set(inspect.signature(cls.__init__).parameters)
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, victim.state_dict(), {"victim": name, "options": victim.describe()})
    with pytest.raises(BadInput, match=f"unknown embedding of {name} 'nick'") as caught:
        load_victim(name, path, device="cpu", embedding="nick")
    known = str(caught.value).split("known: ")[1].split(", ")
    for setting in known:
        other = load_victim(name, path, device="cpu", embedding=setting)
        with torch.no_grad():
            assert other(pictures(), BOTH[0]).embedding.shape == (3, other.embedding_dim), setting
        assert other.describe()["embedding"] == setting
        assert other.similarity in SIMILARITIES


def test_mirror_averaging_does_not_see_left_and_right(victim, name, tmp_path):
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, victim.state_dict(), {"victim": name, "options": victim.describe()})
    images = pictures()
    with torch.no_grad():
        for flip in (True, False):
            other = load_victim(name, path, device="cpu", flip=flip)
            one, mirrored = other(images, BOTH[1]), other(images.flip(3), BOTH[1])
            assert torch.allclose(one.embedding, mirrored.embedding, atol=1e-5) is flip
            assert torch.allclose(one.logits, mirrored.logits, atol=1e-5) is flip


def test_losses_are_finite_and_train_every_parameter(name):
    victim = thin(name).train()
    recipe = victim.recipe()
    assert isinstance(recipe, Recipe)
    losses = victim.training_losses(training_batch(recipe))
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    idle = [key for key, p in victim.named_parameters() if p.requires_grad and p.grad is None]
    assert idle == []


@pytest.mark.slow
def test_losses_survive_bfloat16(name):
    victim = thin(name).train()
    batch = training_batch(victim.recipe())
    with torch.autocast("cpu", torch.bfloat16):
        losses = victim.training_losses(batch)
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in victim.parameters() if p.grad is not None)


def test_catalogue_agrees_with_the_class(name):
    cls, entry = victims.load(name), victims.entry(name)
    assert (cls.name, cls.summary, cls.paper) == (name, entry.summary, entry.paper)
    assert f"{cls.__module__}:{cls.__qualname__}" == entry.target
    assert cls.paper.endswith(f", {PUBLISHED[name]}" if name in PUBLISHED else f" {entry.facts['year']}")
    assert entry.facts["year"] == cls.paper.split()[-1]


def test_catalogue_tells_the_truth_about_the_full_network(name):
    cls, facts = victims.load(name), VICTIMS[name]
    full = cls()
    assert full.input_size == facts.input_size
    assert full.embedding_dim == facts.embedding
    parameters = sum(parameter.numel() for parameter in full.parameters())
    assert round(parameters / 1e6, 1) == pytest.approx(facts.parameters)
    assert full.recipe() != thin(name).recipe()


@pytest.mark.parametrize(
    ("name", "options", "message"), [(name, *row) for name, rows in REFUSED.items() for row in rows]
)
def test_bad_options_are_refused(name, options, message):
    with pytest.raises(BadInput, match=message):
        thin(name, **options)
