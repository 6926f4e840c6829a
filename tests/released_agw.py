"""A file laid out as AGW's authors release theirs, with random tensors, at any width."""

from __future__ import annotations

import numpy as np
import torch
import torchvision


def released_layout(classes, width=64, blocks=(3, 4, 6, 3)):
    """The released AGW state dict from torchvision's ResNet names: three whole trunks, much of it dead."""
    resnet = torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, list(blocks))
    generator = torch.Generator().manual_seed(classes)
    scale = 64 // width

    def fake(tensor, name):
        if not tensor.is_floating_point():
            return torch.tensor(3)
        shape = [max(1, size // scale) if size >= 64 else size for size in tensor.shape]
        scales = "running_var" in name or (tensor.ndim == 1 and name.endswith("weight"))
        low, high = (0.5, 1.5) if scales else (-0.1, 0.1)
        return torch.empty(shape).uniform_(low, high, generator=generator)

    state = {}
    for trunk in ("thermal_module.thermal", "visible_module.visible", "base_resnet.base"):
        for name, tensor in resnet.state_dict().items():
            if not name.startswith("fc."):
                state[f"{trunk}.{name}"] = fake(tensor, name)
    for layer, channels, count in ((2, 512, min(2, blocks[1])), (3, 1024, min(3, blocks[2]))):
        for index in range(count):
            one = torch.empty(1, channels, 1, 1)
            parts = {
                "g.0.weight": one, "g.0.bias": torch.empty(1),
                "W.0.weight": torch.empty(channels, 1, 1, 1), "W.0.bias": torch.empty(channels),
                "W.1.weight": torch.empty(channels), "W.1.bias": torch.empty(channels),
                "W.1.running_mean": torch.empty(channels), "W.1.running_var": torch.empty(channels),
                "W.1.num_batches_tracked": torch.tensor(0),
                "theta.weight": one, "theta.bias": torch.empty(1),
                "phi.weight": one, "phi.bias": torch.empty(1),
            }  # fmt: skip
            for name, tensor in parts.items():
                state[f"NL_{layer}.{index}.{name}"] = fake(tensor, name)
    for name in ("weight", "bias", "running_mean", "running_var"):
        state[f"bottleneck.{name}"] = fake(torch.empty(2048), name)
    state["bottleneck.num_batches_tracked"] = torch.tensor(3)
    state["classifier.weight"] = torch.empty(classes, 2048 // scale).uniform_(-1, 1, generator=generator)
    return state


def save_released(path, state, **beside):
    extras = {"cmc": np.linspace(0, 1, 4, dtype=np.float32), "mAP": np.float64(0.4), "epoch": 7}
    torch.save({"net": state, **extras, **beside}, path)
    return path
