"""Strided 1x1 convolutions of few channels: same values, and no such kernel is ever asked for in training."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode

from vbench.victims.make import avoid_narrow_kernel, is_narrow
from vbench.victims.registry import victims
from vbench.victims.training.batches import augment
from vbench.victims.training.recipe import TrainBatch


class _WeightGradients(TorchDispatchMode):
    """Counts the input channels of strided 1x1 convolutions whose weights' gradient is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.channels: list[int] = []
        self.convolutions = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.convolution_backward.default:
            _, _, weight, _, stride = args[:5]
            wanted = args[-1]
            self.convolutions += 1
            if wanted[1] and tuple(weight.shape[2:]) == (1, 1) and set(stride) != {1}:
                self.channels.append(weight.shape[1])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("padding", [0, 1, (0, 2)])
@pytest.mark.parametrize("stride", [2, (1, 3), (2, 1)])
@pytest.mark.parametrize("incoming", [1, 7, 8])
def test_the_values_and_gradients_are_those_of_the_strided_convolution(incoming, stride, padding):
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv2d(incoming, 3, 1, stride=stride, padding=padding).double()
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    avoid_narrow_kernel(layer)
    images = torch.rand(2, incoming, 9, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    found = layer(images)
    expected = conv2d(images, layer.weight, layer.bias, stride, padding)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    tangent = torch.rand(found.shape, generator=generator, dtype=torch.float64)
    for one, other in zip(
        torch.autograd.grad(found, [images, *layer.parameters()], tangent),
        torch.autograd.grad(expected, [images, *layer.parameters()], tangent),
        strict=True,
    ):
        assert torch.allclose(one, other, rtol=0, atol=1e-12)
    assert all(torch.equal(state[name], tensor) for name, tensor in layer.state_dict().items())


def test_only_narrow_strided_pointwise_layers_are_touched():
    cases = {
        (7, 1, 2): True,
        (8, 1, 2): False,
        (7, 1, 1): False,
        (7, 3, 2): False,
    }
    for (incoming, kernel, stride), narrow in cases.items():
        layer = nn.Conv2d(incoming, 4, kernel, stride=stride)
        assert is_narrow(layer) is narrow
        avoid_narrow_kernel(layer)
        assert (type(layer) is nn.Conv2d) is not narrow


@pytest.mark.parametrize("name", [name for name in victims.names() if name != "pmt"])
def test_training_a_very_thin_victim_asks_for_no_such_kernel(name):
    cls = victims.load(name)
    options = {**cls.THIN, "width": 0.0625, "input_size": (64, 32)}
    victim = cls(num_classes=2, **options).train()
    assert any(is_narrow(layer) for layer in victim.modules()), "the width is one that has such layers"
    generator = torch.Generator().manual_seed(0)
    views = victim.recipe().visible_views
    pixels = torch.randint(0, 256, (4 * (views + 1), 64, 32, 3), generator=generator, dtype=torch.uint8)
    images = augment(pixels, generator)
    batch = TrainBatch(
        visible=images[: 4 * views],
        infrared=images[4 * views :],
        labels=torch.tensor([0, 0, 1, 1]),
        generator=generator,
        instances=2,
        epoch=0,
        epochs=1,
        previous={},
        label_smoothing=victim.recipe().label_smoothing,
    )
    with _WeightGradients() as seen:
        torch.stack(list(victim.training_losses(batch).values())).sum().backward()
    assert seen.convolutions
    assert all(channels >= 8 for channels in seen.channels), seen.channels


def test_a_network_that_is_not_touched_would_be_counted():
    # On the meta device, where nothing is computed: for real it may end the interpreter.
    layer = nn.Conv2d(4, 8, 1, stride=2, bias=False, device="meta")
    images = torch.rand(2, 4, 6, 6, device="meta")
    with _WeightGradients() as seen:
        layer(images).sum().backward()
    assert seen.channels == [4]
