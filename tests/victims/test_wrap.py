"""Any module as a victim: its embedding, stages, identity, and what is refused before any work."""

from __future__ import annotations

import pytest
import torch
from own_victim import SIZE, Net
from torch import nn
from torch.nn.functional import normalize
from torchvision.models import mobilenet_v2, resnet18

from vbench import BadInput, Modality, build_attack, wrap
from vbench.attacks.base import PerImageAttack
from vbench.core.threat import ThreatModel
from vbench.victims.build import victim_code

IMAGES = torch.rand((3, 3, *SIZE), generator=torch.Generator().manual_seed(1))


class Line(nn.Module):
    """The AGW line: a stem for each modality, shared layers, both embeddings in the end."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.visible, self.thermal = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(3, 8, 3, 2, 1)
        self.base = nn.Module()
        self.base.layer1, self.base.layer2 = nn.Conv2d(8, 8, 3, 2, 1), nn.Conv2d(8, 16, 3, 1, 1)
        self.base.layer3 = nn.Conv2d(16, 12, 1)
        self.neck = nn.BatchNorm1d(12)

    def forward(self, x1, x2, modal=0):
        x = {1: lambda: self.visible(x1), 2: lambda: self.thermal(x2)}[modal]()
        x = self.base.layer3(self.base.layer2(self.base.layer1(x).tanh()).tanh())
        pooled = x.mean((2, 3))
        return normalize(pooled), normalize(self.neck(pooled))


def made(module: nn.Module, **given):
    return wrap(module.eval(), **{"input_size": SIZE, **given})


def refusal(module: object, **given) -> str:
    with pytest.raises(BadInput) as caught:
        wrap(module, **{"input_size": SIZE, **given})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_one_stream_gives_the_module_s_embedding_of_normalised_images():
    net = Net()
    victim = made(net, mean=0.5, std=(0.1, 0.2, 0.4))
    std = torch.tensor((0.1, 0.2, 0.4)).view(3, 1, 1)
    expected = net((IMAGES - 0.5) / std)
    for modality in Modality:
        assert torch.equal(victim(IMAGES, modality).embedding, expected)
    assert (victim.embedding_dim, victim.num_classes) == (12, 0)


def test_the_agw_line_takes_the_stream_of_the_modality_and_ranks_by_the_last_embedding():
    net = Line()
    victim = made(net, mean=0, std=1)
    for modality, modal in zip(Modality, (1, 2), strict=True):
        assert torch.equal(victim(IMAGES, modality).embedding, net(IMAGES, IMAGES, modal)[1])
    # The streams of one modality are no stages: an attack works on both.
    assert victim.stages == ("layer1", "layer2", "layer3")


def test_a_call_says_how_two_streams_are_told_apart():
    net = Line()
    assert "its forward takes (x, modality)" in refusal(Flagged().eval())
    victim = made(net, mean=0, std=1, call=lambda net, x, m: net(x, x, 1 + (m == "infrared"))[0])
    assert torch.equal(victim(IMAGES, "infrared").embedding, net(IMAGES, IMAGES, 2)[0])


class Flagged(nn.Module):
    def forward(self, x, modality=0):
        return x.mean((2, 3))


def test_stages_are_found_by_the_names_of_submodules():
    assert made(resnet18(), input_size=(64, 32)).stages == ("relu", "layer1", "layer2", "layer3", "layer4")
    assert made(Net()).stages == ("stem", "blocks/0", "blocks/1")
    assert made(Net(), stages=["blocks.1", "stem.0"]).stages == ("stem/0", "blocks/1")
    # A run of equal shapes is one stage, named after its last submodule.
    mobile = made(
        nn.Sequential(mobilenet_v2().features, nn.AdaptiveAvgPool2d(1), nn.Flatten()), input_size=(64, 32)
    )
    assert mobile.stages == tuple(f"0/{block}" for block in (0, 1, 3, 6, 10, 13, 16, 17, 18))


def test_maps_are_those_of_the_submodule_and_edits_replace_them():
    net = Net()
    victim = made(net, mean=0, std=1)
    output = victim(IMAGES, "visible", {"stem": lambda maps: maps.flip(3)})
    assert torch.equal(output.features["stem"], net.stem(IMAGES).flip(3))
    rest = net.blocks[1](net.blocks[0](net.stem(IMAGES).flip(3)).tanh())
    assert torch.equal(output.features["blocks/1"], rest)
    assert torch.equal(output.embedding, rest.tanh().mean((2, 3)))
    assert torch.equal(victim(IMAGES, "visible").embedding, net(IMAGES))
    assert not any(module._forward_hooks for module in net.modules())
    with pytest.raises(BadInput, match="the edit of stem changed its shape"):
        victim(IMAGES, "visible", {"stem": lambda maps: maps[:, :1]})


class Given(nn.Module):
    """Returns what a function makes of the images."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.scale = function, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.function(self.scale * x)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda x: (x.mean((2, 3)), x), "must be a torch.Tensor, not a tuple; call="),
        (lambda x: x, "the embedding of 2 images must be 2 x D, not (2, 3, 32, 16)"),
        (lambda x: x.mean((2, 3))[:1], "must be 2 x D, not (1, 3)"),
        (lambda x: x.mean((2, 3)) / 0, "2 of 2 embeddings are not finite"),
        (lambda x: x.mean((2, 3)) + torch.rand(3), "two passes of the same images give different"),
        (lambda x: x.detach().mean((2, 3)), "no gradient reaches the visible images"),
        (lambda x: x.round().mean((2, 3)), "no gradient reaches the visible images"),
        (lambda x: (x - x.detach()).pow(0.5).mean((2, 3)), "gradient at the visible images is not finite"),
        (lambda x: x.reshape(2, 7), "shape '[2, 7]' is invalid"),
    ],
)
def test_a_module_that_cannot_be_attacked_is_refused(function, told):
    assert told in refusal(Given(function).eval())


def test_wrong_arguments_are_refused():
    net = Net().eval()
    assert "wrap takes a torch.nn.Module, not 3" in refusal(3)
    assert "in training mode; call its eval() first" in refusal(Net())
    assert "mean is a number or three" in refusal(net, mean=(0.5, 0.5))
    assert "std is a number or three, each above 0" in refusal(net, std=0)
    assert "'similarity' must be one of cosine" in refusal(net, similarity="cosines")
    assert "'input_size' must be (height, width)" in refusal(net, input_size=32)
    assert "unknown submodule of Net 'stm'" in refusal(net, stages=["stm"])
    assert "'blocks' does not give one N x C x h x w map" in refusal(net, stages=["blocks"])
    assert "'AGW' looks like 'agw'" in refusal(net, name="AGW")


def test_identity_covers_weights_code_and_settings():
    def identity(module: nn.Module, **given):
        victim = made(module, **given)
        return victim.name, str(victim.describe()), str(victim_code(victim))

    def first(net, x, modality):
        return net(x)

    def second(net, x, modality):
        return net(2 * x)

    class Other(Net):
        def forward(self, x):
            return super().forward(x) + 1

    Other.__name__ = Other.__qualname__ = "Net"
    same = identity(Net())
    assert identity(Net()) == same
    different = [
        identity(Other()),
        identity(Net(), call=first),
        identity(Net(), call=second),
        identity(Net(), std=1),
        identity(Net(), similarity="euclidean"),
        identity(Net(), stages=["stem"]),
        identity(Net(), resize_filter="lanczos"),
        identity(Net(width=4)),
    ]
    assert len({same, *different}) == 1 + len(different)


def test_an_attack_is_called_on_a_batch():
    net, threat = Net(), ThreatModel("4/255", quantize=False)
    victim, attack = made(net), build_attack("metric_ifgsm[steps=3]")
    assert isinstance(attack, PerImageAttack)
    found = attack(victim, IMAGES, "visible", eps="4/255")
    threat.check(IMAGES, found)
    clean, moved = (victim(images, "visible").embedding for images in (IMAGES, found))
    noise = build_attack("noise")(victim, IMAGES, "visible", eps="4/255")
    apart = [
        (normalize(one) - normalize(clean)).square().sum()
        for one in (moved, victim(noise, "visible").embedding)
    ]
    assert apart[0] > 2 * apart[1]
    assert torch.equal(found, attack(victim, IMAGES, Modality.VISIBLE, eps=4 / 255))
    assert not torch.equal(found, attack(victim, IMAGES, "visible", eps="4/255", seed=9))


def test_labels_steer_a_classification_attack(victim):
    images = torch.rand((2, 3, *victim.input_size), dtype=torch.float64)
    fgsm, predicted = build_attack("fgsm"), victim(images, "visible").logits.argmax(1)
    own = fgsm(victim, images, "visible")
    assert torch.equal(own, fgsm(victim, images, "visible", predicted))
    assert not torch.equal(own, fgsm(victim, images, "visible", (predicted + 1) % 6))


@pytest.mark.parametrize(
    ("attack", "told"),
    [
        (
            "uap",
            "is learnt on training identities and cannot work on a batch alone; use vbench.evaluate, then",
        ),
        ("ensemble", "is several attacks and cannot work on a batch alone; use vbench.evaluate"),
        ("pgd", "needs an identity classifier; Net has none"),
        ("noise", "images must be N x 3 x 32 x 16"),
        ("square", "images must be floating-point numbers in"),
    ],
)
def test_what_a_call_cannot_do_is_told(attack, told):
    images = {"noise": IMAGES[:, :1], "square": IMAGES * 255}.get(attack, IMAGES)
    with pytest.raises(BadInput, match=told):
        build_attack(attack)(made(Net()), images, "visible")
