"""PMT against a slow transcription of the paper's network and losses, under the released names."""

from __future__ import annotations

import json
import math

import pytest
import torch
from victim_checks import check_refused, misfits, untrained

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.victims.checkpoint import write_checkpoint
from vbench.victims.load import build_victim, load_victim
from vbench.victims.losses import batch_hard_triplet, discriminative_center, modality_enhancement
from vbench.victims.pmt import PMT
from vbench.victims.training.recipe import TrainBatch

BOTH = [Modality.VISIBLE, Modality.INFRARED]
#: 40x28 images in 8-pixel patches every 6 pixels: a grid of 6 x 4.
TINY = {
    "input_size": (40, 28), "patch": 8, "stride": 6, "width": 12, "depth": 6, "heads": 3, "mlp_ratio": 2.5,
}  # fmt: skip
GRID, CLASSES = (6, 4), 5


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def released_state(seed=0, classes=CLASSES, width=12, depth=6, patch=8, hidden=30):
    """Random tensors under the names of the authors' file."""
    shapes = {
        "base.cls_token": (1, 1, width),
        "base.pos_embed": (1, 1 + GRID[0] * GRID[1], width),
        "base.patch_embed.proj.weight": (width, 3, patch, patch),
        "base.patch_embed.proj.bias": (width,),
    }
    for index in range(depth):
        shapes |= {
            f"base.blocks.{index}.{name}": shape
            for name, shape in {
                "norm1.weight": (width,), "norm1.bias": (width,),
                "attn.qkv.weight": (3 * width, width), "attn.qkv.bias": (3 * width,),
                "attn.proj.weight": (width, width), "attn.proj.bias": (width,),
                "norm2.weight": (width,), "norm2.bias": (width,),
                "mlp.fc1.weight": (hidden, width), "mlp.fc1.bias": (hidden,),
                "mlp.fc2.weight": (width, hidden), "mlp.fc2.bias": (width,),
            }.items()
        }  # fmt: skip
    shapes |= {
        "base.norm.weight": (width,),
        "base.norm.bias": (width,),
        "classifier.weight": (classes, width),
    }
    shapes |= {f"bottleneck.{name}": (width,) for name in ("weight", "bias", "running_mean", "running_var")}
    generator = seeded(seed)
    state = {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}
    state["bottleneck.running_var"] = state["bottleneck.running_var"].abs() + 0.5
    state["bottleneck.num_batches_tracked"] = torch.tensor(9)
    return state


def layer_norm(x, state, name):
    mean = x.mean(-1, keepdim=True)
    variance = ((x - mean) ** 2).mean(-1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * state[f"{name}.weight"] + state[f"{name}.bias"]


def linear(x, state, name):
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def slow_attention(x, state, name, heads):
    """One head and one query at a time; x is L x D."""
    length, width = x.shape
    size = width // heads
    packed = linear(x, state, f"{name}.qkv")
    query, key, value = packed[:, :width], packed[:, width : 2 * width], packed[:, 2 * width :]
    mixed = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for row in range(length):
            scores = torch.stack([query[row, part] @ key[other, part] for other in range(length)])
            weights = torch.exp(scores / math.sqrt(size) - (scores / math.sqrt(size)).max())
            mixed[row, part] = (weights / weights.sum()) @ value[:, part]
    return linear(mixed, state, f"{name}.proj")


def slow_tokens(image, state, patch=8, stride=6):
    """The class token and one token a patch, row by row, with positions; L x D."""
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = (image - mean.to(image)[:, None, None]) / std.to(image)[:, None, None]
    weight = state["base.patch_embed.proj.weight"].flatten(1)
    tokens = [state["base.cls_token"][0, 0]]
    for top in range(0, image.shape[1] - patch + 1, stride):
        for left in range(0, image.shape[2] - patch + 1, stride):
            pixels = image[:, top : top + patch, left : left + patch].reshape(-1)
            tokens.append(weight @ pixels + state["base.patch_embed.proj.bias"])
    return torch.stack(tokens) + state["base.pos_embed"][0]


def slow_forward(image, state, depth=6, heads=3):
    """(embedding, logits, tokens after the stem and after every block) of one image in [0, 1]."""
    tokens = slow_tokens(image, state)
    seen = [tokens]
    for index in range(depth):
        name = f"base.blocks.{index}"
        tokens = tokens + slow_attention(
            layer_norm(tokens, state, f"{name}.norm1"), state, f"{name}.attn", heads
        )
        hidden = linear(layer_norm(tokens, state, f"{name}.norm2"), state, f"{name}.mlp.fc1")
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
        tokens = tokens + linear(hidden, state, f"{name}.mlp.fc2")
        seen.append(tokens)
    vector = layer_norm(tokens, state, "base.norm")[0]
    scale = state["bottleneck.weight"] / (state["bottleneck.running_var"] + 1e-5).sqrt()
    neck = (vector - state["bottleneck.running_mean"]) * scale + state["bottleneck.bias"]
    return neck / (neck**2).sum().sqrt(), state["classifier.weight"] @ neck, seen


@pytest.fixture(scope="module")
def state():
    return released_state()


@pytest.fixture
def victim(state, tmp_path):
    return load(state, tmp_path)


def load(state, folder, **options):
    path = folder / "SYSU_best.pth"
    torch.save(state, path)
    return load_victim("pmt", path, device="cpu", **{**TINY, **options})


@pytest.fixture
def images():
    return torch.rand(3, 3, 40, 28, generator=seeded(2))


@pytest.mark.parametrize("modality", BOTH)
def test_forward_equals_the_slow_transcription(victim, state, images, modality):
    output = victim(images, modality)
    assert set(output.parts) == {"neck"}
    assert torch.equal(output.embedding, output.parts["neck"])
    for index, image in enumerate(images):
        embedding, logits, _ = slow_forward(image, state)
        torch.testing.assert_close(output.embedding[index], embedding, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(output.logits[index], logits, rtol=1e-4, atol=1e-4)


def test_stages_are_the_quarters_of_the_blocks_but_the_last_two_as_maps(victim, state, images):
    features = victim(images, Modality.VISIBLE).features
    assert tuple(features) == victim.stages
    _, _, seen = slow_forward(images[1], state)
    for stage, blocks in zip(victim.stages, (0, 1, 2, 3, 4), strict=True):
        expected = seen[blocks][1:].T.reshape(12, *GRID)
        torch.testing.assert_close(features[stage][1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_full_size_is_the_authors_network():
    with torch.device("meta"):
        shapes = {
            name: tuple(tensor.shape)
            for name, tensor in released_state(0, 395, 768, 12, 16, 3072).items()
            if name != "base.pos_embed"
        }
    full = PMT()
    own = {PMT.released.released_name(name): tuple(t.shape) for name, t in full.state_dict().items()}
    assert own.pop("base.pos_embed") == (1, 211, 768)
    assert own == shapes
    assert sum(parameter.numel() for parameter in full.parameters()) == 86_114_304
    assert full.trunk.grid == (21, 10)
    assert all(block.norm1.eps == 1e-5 for block in full.trunk.blocks)
    rates = [block.drop_path for block in full.trunk.blocks]
    assert rates == pytest.approx([0.1 * index / 11 for index in range(12)])
    recipe = full.recipe()
    assert (recipe.epochs, recipe.learning_rate, recipe.trunk_rate) == (24, 3e-4, 0.5)
    at_full_rate = {name for name, _ in full.named_parameters() if name.startswith(recipe.head)}
    blocks = ("trunk.blocks.", "trunk.project.")
    assert at_full_rate == {name for name, _ in full.named_parameters() if not name.startswith(blocks)}


def test_parallel_prefix_and_class_count_of_the_other_set(state, tmp_path, images):
    plain = load(state, tmp_path)
    prefixed = load({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path)
    assert torch.equal(plain(images, BOTH[0]).embedding, prefixed(images, BOTH[0]).embedding)
    assert load(released_state(classes=7), tmp_path).num_classes == 7
    with pytest.raises(BadInput, match="knows 5 identities, not 6"):
        load(state, tmp_path, num_classes=6)


@misfits(
    (
        lambda s: [s.pop(n) for n in list(s) if n.startswith("base.blocks.5.")],
        r"missing \(12\): base.blocks.5.norm1",
    ),
    (lambda s: s.pop("classifier.weight"), "no identity classifier"),
    missing=["base.blocks.3.attn.qkv.bias"],
    unexpected=["base.head.bias"],
    misshaped=["base.pos_embed"],
)
def test_file_that_does_not_fit_is_refused_by_name(state, tmp_path, change, message):
    check_refused(PMT, state, change, message, tmp_path / "pmt.t", device="cpu", **TINY)


def test_file_is_told_from_other_models(state, tmp_path):
    torch.save({"net": state}, tmp_path / "w.pth")
    with pytest.raises(BadInput, match=r"looks like a PMT checkpoint \(victim pmt\)"):
        load_victim("agw", tmp_path / "w.pth", device="cpu")
    plain = {name.removeprefix("base."): tensor for name, tensor in state.items()}
    plain["head.weight"] = torch.ones(4, 12)
    torch.save(plain, tmp_path / "vit.pth")
    with pytest.raises(BadInput, match="plain ImageNet ViT"):
        load_victim("pmt", tmp_path / "vit.pth", device="cpu")


@pytest.mark.parametrize("stage", PMT.stages)
def test_edits_at_every_stage(victim, images, stage):
    plain = victim(images, Modality.INFRARED)
    same = victim(images, Modality.INFRARED, {stage: lambda features: features})
    assert torch.equal(plain.embedding, same.embedding)
    assert plain.features[stage].shape == (3, 12, *GRID)

    def second_only(features):
        return torch.cat((features[:1], features[1:2].flip(3) * 0.5, features[2:]))

    edited = victim(images, Modality.INFRARED, {stage: second_only})
    assert torch.equal(edited.features[stage], second_only(plain.features[stage]))
    moved = (edited.embedding - plain.embedding).abs().amax(dim=1)
    assert moved[1] > 1e-4
    assert not moved[0]
    assert not moved[2]


def test_features_of_a_row_belong_to_its_image(victim, images):
    together = victim(images, Modality.VISIBLE).features
    for index, image in enumerate(images):
        alone = victim(image[None], Modality.VISIBLE).features
        for stage in victim.stages:
            torch.testing.assert_close(together[stage][index], alone[stage][0], rtol=1e-4, atol=1e-5)


def test_flip_averages_with_the_mirrored_image(state, tmp_path, images):
    flipping = load(state, tmp_path, flip=True)
    both = [slow_forward(image, state)[0] for image in (images[0], images[0].flip(2))]
    mean = (both[0] + both[1]) / 2
    expected = mean / mean.norm()
    torch.testing.assert_close(flipping(images, BOTH[0]).embedding[0], expected, rtol=1e-4, atol=1e-5)


def test_gradient_reaches_the_image_and_matches_finite_differences(victim):
    victim = victim.double()
    image = torch.rand(1, 3, 40, 28, dtype=torch.float64, generator=seeded(3)).requires_grad_()
    direction = torch.randn(12, dtype=torch.float64, generator=seeded(4))

    def score(x):
        edits = {"layer2": lambda features: features * 1.5}
        return (victim(x, Modality.VISIBLE, edits).embedding @ direction).sum()

    (gradient,) = torch.autograd.grad(score(image), image)
    step = torch.randn(image.shape, dtype=torch.float64, generator=seeded(5))
    with torch.no_grad():
        numeric = (score(image + 1e-6 * step) - score(image - 1e-6 * step)) / 2e-6
    assert gradient.abs().max() > 0
    torch.testing.assert_close((gradient * step).sum(), numeric, rtol=1e-4, atol=1e-8)


def test_description_and_own_file_rebuild_the_victim(victim, images, tmp_path):
    options = json.loads(json.dumps(victim.describe()))
    assert PMT(**options).describe() == victim.describe()
    assert {name: options[name] for name in ("width", "depth", "embedding", "dropout")} == {
        "width": 12, "depth": 6, "embedding": "neck", "dropout": 0.03,
    }  # fmt: skip
    path = tmp_path / "own.safetensors"
    write_checkpoint(path, victim.state_dict(), {"victim": "pmt", "options": victim.describe()})
    again = build_victim(PMT, path, device="cpu")
    assert torch.equal(again(images, BOTH[0]).embedding, victim(images, BOTH[0]).embedding)


def test_starting_weights_come_from_the_generator_alone():
    before = torch.get_rng_state()
    options = {**TINY, "num_classes": 3}
    first, second, other = (PMT(**options, generator=seeded(seed)) for seed in (7, 7, 8))
    assert torch.equal(torch.get_rng_state(), before)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name
    for name in (
        "trunk.blocks.0.expand.weight",
        "trunk.positions",
        "trunk.class_token",
        "trunk.project.weight",
    ):
        assert not torch.equal(first.state_dict()[name], other.state_dict()[name]), name


def paired_batch(epoch=3, epochs=4, seed=6, **changes):
    """Four identities, two rows each, in both modalities."""
    images = torch.rand(16, 3, 40, 28, generator=seeded(seed))
    labels = torch.tensor([3, 3, 0, 0, 4, 4, 1, 1])
    options = {"generator": seeded(seed), "instances": 2, "epoch": epoch, "epochs": epochs, **changes}
    return TrainBatch(images[:8], images[8:], labels, **options)


def distance(a, b):
    return ((a - b) ** 2).sum().sqrt()


def slow_triplet(vectors, labels, margin=0.1):
    total = 0.0
    for anchor, label in zip(vectors, labels, strict=True):
        far = max(distance(anchor, v) for v, own in zip(vectors, labels, strict=True) if own == label)
        near = min(distance(anchor, v) for v, own in zip(vectors, labels, strict=True) if own != label)
        total = total + max(far - near + margin, torch.zeros(()))
    return total / len(labels)


def slow_enhancement(visible, infrared, labels):
    total = 0.0
    for own_side, other_side in ((visible, infrared), (infrared, visible)):
        gaps = []
        for i, label in enumerate(labels):
            mates = [j for j, other in enumerate(labels) if other == label]
            cross = sum(distance(own_side[i], other_side[j]) for j in mates) / len(mates)
            intra = sum(distance(own_side[i], own_side[j]) for j in mates if j != i) / (len(mates) - 1)
            gaps.append((cross - intra) ** 2)
        total = total + sum(gaps) / len(gaps)
    return total / 2


def slow_center(vectors, labels):
    pulls, pushes = [], []
    for identity in sorted(set(labels)):
        own = [v for v, label in zip(vectors, labels, strict=True) if label == identity]
        center = sum(own) / len(own)
        others = [distance(center, v) for v, label in zip(vectors, labels, strict=True) if label != identity]
        close = [d for d in others if d < sum(others) / len(others)]
        pulls += [distance(center, v) for v in own]
        pushes.append(sum(close) / len(close))
    return (sum(pulls) / len(pulls)) / (sum(pushes) / len(pushes))


@pytest.mark.parametrize("instances", [2, 3])
def test_losses_equal_the_slow_transcription_and_their_gradients_finite_differences(instances):
    labels = torch.tensor([5, 2, 9, 7]).repeat_interleave(instances)
    count = len(labels)
    vectors = torch.randn(2 * count, 6, dtype=torch.float64, generator=seeded(1)).requires_grad_()
    both = torch.cat((labels, labels))
    halves = vectors.chunk(2)
    pairs = {
        "triplet": (
            lambda x: batch_hard_triplet(x, both, 0.1),
            slow_triplet(vectors, both.tolist()),
        ),
        "enhancement": (
            lambda x: modality_enhancement(*x.chunk(2), labels),
            slow_enhancement(*halves, labels.tolist()),
        ),
        "center": (lambda x: discriminative_center(x, both), slow_center(vectors, both.tolist())),
    }
    for name, (fast, slow) in pairs.items():
        torch.testing.assert_close(fast(vectors), slow, msg=name)
        (gradient,) = torch.autograd.grad(slow, vectors, retain_graph=True)
        (own,) = torch.autograd.grad(fast(vectors), vectors)
        torch.testing.assert_close(own, gradient, msg=name)
        assert torch.autograd.gradcheck(fast, (vectors,), eps=1e-6, atol=1e-6), name


def trained_losses(victim, batch):
    """Losses of a batch and, by hooks, the images and class vectors they were computed from."""
    seen = {}
    handles = [
        victim.normalise.register_forward_hook(lambda module, given, out: seen.update(images=given[0])),
        victim.neck.register_forward_hook(lambda module, given, out: seen.update(vectors=given[0], neck=out)),
    ]
    try:
        return victim.training_losses(batch), seen
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("epoch", [0, 1])
def test_training_is_progressive(state, tmp_path, epoch):
    victim = load(state, tmp_path).train()
    batch = paired_batch(epoch=epoch, label_smoothing=0.2)
    losses, seen = trained_losses(victim, batch)
    assert list(losses) == ["identity", "triplet", "enhancement", "center"]
    visible, infrared = seen["images"].chunk(2)
    vectors, labels = seen["vectors"], batch.labels.tolist()
    logs = (seen["neck"] @ victim.classifier.weight.T).log_softmax(dim=1)
    smooth = [
        -(0.8 * row[label] + 0.2 * row.mean()) for row, label in zip(logs, labels + labels, strict=True)
    ]
    torch.testing.assert_close(losses["identity"], sum(smooth[:8]) / 8 + sum(smooth[8:]) / 8)
    assert not torch.equal(infrared, batch.infrared)
    if epoch == 0:
        red, green, blue = batch.visible.unbind(1)
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        torch.testing.assert_close(visible, torch.stack((grey, grey, grey), dim=1))
        expected = (slow_triplet(vectors[:8], labels) + slow_triplet(vectors[8:], labels), 0.0, 0.0)
    else:
        assert torch.equal(visible, batch.visible)
        expected = (
            slow_triplet(vectors, labels + labels),
            0.5 * slow_enhancement(*vectors.chunk(2), labels),
            0.5 * slow_center(vectors, labels + labels),
        )
    for name, value in zip(("triplet", "enhancement", "center"), expected, strict=True):
        torch.testing.assert_close(losses[name], torch.as_tensor(value), rtol=1e-4, atol=1e-5, msg=name)


def test_a_quarter_of_the_epochs_is_grey(state, tmp_path):
    victim = load(state, tmp_path).train()
    centers = [victim.training_losses(paired_batch(epoch, 24))["center"].detach() for epoch in (0, 5, 6, 23)]
    assert [float(center) == 0 for center in centers] == [True, True, False, False]


def test_every_weight_learns(state, tmp_path):
    victim = load(state, tmp_path).train()
    # The keys' shift is the same for every patch, so that the softmax does not see it; it has no gradient.
    assert untrained(victim, paired_batch()) == []
    assert [name for name, p in victim.named_parameters() if not p.requires_grad] == ["neck.bias"]


def test_training_draws_come_from_the_batch_alone(state, tmp_path):
    before = torch.get_rng_state()
    first, second, other = (
        trained_losses(load(state, tmp_path).train(), paired_batch(generator=seeded(seed)))[1]["vectors"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("option", ["dropout", "drop_path"])
def test_dropping_acts_in_training_only(state, tmp_path, images, option):
    batches = {rate: {"dropout": 0.0, "drop_path": 0.0, option: rate} for rate in (0.0, 0.5)}
    victims = {rate: load(state, tmp_path, **options) for rate, options in batches.items()}
    assert torch.equal(victims[0.0](images, BOTH[0]).embedding, victims[0.5](images, BOTH[0]).embedding)
    vectors = {
        rate: trained_losses(victim.train(), paired_batch())[1]["vectors"] for rate, victim in victims.items()
    }
    assert not torch.allclose(vectors[0.0], vectors[0.5])


def test_thin_preset_is_a_transformer_behind_a_stem(tmp_path):
    thin = PMT(num_classes=3, **PMT.THIN).eval()
    assert sum(parameter.numel() for parameter in thin.parameters()) < 600_000
    images = torch.rand(2, 3, *thin.input_size, generator=seeded(7))
    features = thin(images, Modality.VISIBLE).features
    assert {tuple(map_.shape) for map_ in features.values()} == {(2, 96, 7, 3)}
    kept = []
    handle = thin.trunk.project.register_forward_hook(lambda module, given, out: kept.append(given[0]))
    thin(images, Modality.VISIBLE)
    handle.remove()
    assert torch.equal(kept[0], thin.trunk.stem(thin.normalise(images)))
    assert not hasattr(PMT(num_classes=3, **TINY).trunk, "stem")
    assert PMT(**thin.describe()).describe() == thin.describe()


def test_starting_tokens_keep_their_size_and_near_positions_are_alike():
    victim = PMT(num_classes=3, **{**TINY, "width": 48})
    grid = victim.trunk.positions[0, 1:].detach().reshape(*GRID, 48)
    near, far = (grid[0, 0] - grid[0, 1]).norm(), (grid[0, 0] - grid[5, 3]).norm()
    assert 0 < near < 0.7 * far
    tokens = torch.randn(4, 25, 48, generator=seeded(8))
    with torch.no_grad():
        for block in victim.trunk.blocks:
            tokens = block(tokens)
    assert 0.8 < tokens.std() < 1.7


@pytest.mark.slow
def test_recipe_follows_the_width():
    thin = PMT(num_classes=3, **PMT.THIN).recipe()
    assert thin.epochs != PMT().recipe().epochs
    assert thin.validation > 0
    names = [name for name, _ in PMT(num_classes=3, **PMT.THIN).named_parameters()]
    assert all(any(name.startswith(prefix) for name in names) for prefix in thin.head)
