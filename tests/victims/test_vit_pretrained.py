"""ImageNet weights of a vision transformer, in both layouts they are found in."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT
from victim_checks import misfits

from vbench.core.errors import BadInput
from vbench.victims.agw import AGW
from vbench.victims.pmt import PMT
from vbench.victims.pretrained import resize_positions, start_from_imagenet_vit

WIDTH, DEPTH, HIDDEN = 12, 6, 24


def make_victim(size=(32, 32), stride=8):
    options = {"patch": 8, "width": WIDTH, "depth": DEPTH, "heads": 3, "mlp_ratio": 2.0}
    return PMT(num_classes=3, input_size=size, stride=stride, **options).eval()


def torchvision_vit():
    """A small one of 4 x 4 patches with random weights."""
    vit = TorchvisionViT(
        image_size=32, patch_size=8, num_layers=DEPTH, num_heads=3, hidden_dim=WIDTH, mlp_dim=HIDDEN
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.normal_(0, 0.3, generator=generator)
    return vit.eval()


def as_timm(state):
    """The same weights under timm's names."""
    names = {
        "class_token": "cls_token",
        "encoder.pos_embedding": "pos_embed",
        "conv_proj": "patch_embed.proj",
        "encoder.ln.": "norm.",
        "encoder.layers.encoder_layer_": "blocks.",
        ".ln_": ".norm",
        "self_attention.in_proj_": "attn.qkv.",
        "self_attention.out_proj": "attn.proj",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "heads.head": "head",
    }
    renamed = {}
    for name, tensor in state.items():
        for theirs, timm in names.items():
            name = name.replace(theirs, timm)
        renamed[name] = tensor
    return renamed


@pytest.mark.parametrize("layout", [dict, as_timm])
def test_trunk_then_computes_what_torchvision_does(layout):
    vit, victim = torchvision_vit(), make_victim()
    kept = victim.classifier.weight.clone()
    start_from_imagenet_vit(victim, layout(vit.state_dict()), "vit.pth")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    seen = []
    vit.encoder.register_forward_hook(lambda module, given, out: seen.append(out[:, 0]))
    with torch.no_grad():
        vit(images)
        found = victim.trunk(images)
    # torchvision's layer normalisation has epsilon 1e-6, ours 1e-5.
    torch.testing.assert_close(found, seen[0], rtol=1e-3, atol=1e-3)
    assert torch.equal(victim.classifier.weight, kept)


def test_positions_are_resized_bilinearly_to_the_victims_grid():
    state, victim = torchvision_vit().state_dict(), make_victim((64, 32), stride=12)
    start_from_imagenet_vit(victim, as_timm(state), "vit.pth")
    stored = state["encoder.pos_embedding"][0]
    found = victim.trunk.positions[0]
    assert victim.trunk.grid == (5, 3)
    assert torch.equal(found[0], stored[0])
    grid = stored[1:].reshape(4, 4, WIDTH)
    for row in range(5):
        for column in range(3):
            places = [(row + 0.5) * 4 / 5 - 0.5, (column + 0.5) * 4 / 3 - 0.5]
            weights = [
                [max(0.0, 1 - abs(min(max(place, 0.0), 3.0) - index)) for index in range(4)]
                for place in places
            ]
            expected = sum(weights[0][i] * weights[1][j] * grid[i, j] for i in range(4) for j in range(4))
            torch.testing.assert_close(found[1 + row * 3 + column], expected)


def test_positions_of_no_square_grid_are_refused():
    with pytest.raises(BadInput, match=r"w\.pth: positions must be 1 x \(1 \+ a square\)"):
        resize_positions(torch.zeros(1, 13, WIDTH), (2, 2), "w.pth")


@misfits(
    (lambda s: s.pop("cls_token"), "not an ImageNet vision transformer"),
    missing=["blocks.2.norm1.bias"],
    unexpected=["dist_token"],
    misshaped=["blocks.0.mlp.fc1.bias"],
)
def test_files_that_do_not_fit_are_refused_by_name(change, message):
    state = as_timm(torchvision_vit().state_dict())
    change(state)
    with pytest.raises(BadInput, match=message):
        start_from_imagenet_vit(make_victim(), state, "vit.pth")


def test_victim_without_a_transformer_is_refused():
    agw = AGW(num_classes=2, width=0.0625, blocks=(1, 1, 1, 1), small_stem=True, input_size=(32, 16))
    with pytest.raises(BadInput, match="no vision transformer"):
        start_from_imagenet_vit(agw, torchvision_vit().state_dict(), "vit.pth")


def test_training_reaches_it_by_the_general_door(monkeypatch):
    from vbench.victims.pretrained import start_from_imagenet

    state = torchvision.models.vit_b_16(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda url, **_: state)
    pmt = PMT(num_classes=3)
    start_from_imagenet(pmt, download=True)
    stored = state["encoder.layers.encoder_layer_3.mlp.0.weight"]
    assert torch.equal(pmt.trunk.blocks[3].expand.weight, stored)
