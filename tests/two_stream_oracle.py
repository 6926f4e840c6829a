"""Two-stream ResNets written out from a released state dict, without any module of a victim."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from vbench.core.types import Modality

STEMS = {Modality.VISIBLE: "visible_module.visible", Modality.INFRARED: "thermal_module.thermal"}
STRIDES = {"layer1": 1, "layer2": 2, "layer3": 2, "layer4": 1}


def batch_norm(state, name, x):
    """With the stored statistics: ``(x - mean) / sqrt(var + 1e-5) * weight + bias`` per channel."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    mean, var, weight, bias = (
        state[f"{name}.{part}"].view(shape) for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias


def normalised(images):
    """ImageNet mean and standard deviation."""
    channels = zip(images.unbind(1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    return torch.stack([(channel - mean) / std for channel, mean, std in channels], dim=1)


def stem(state, prepared, modality):
    """The 7x7 convolution of a modality, its normalisation, ReLU and pooling."""
    prefix = STEMS[modality]
    x = F.conv2d(prepared, state[f"{prefix}.conv1.weight"], stride=2, padding=3)
    return F.max_pool2d(torch.relu(batch_norm(state, f"{prefix}.bn1", x)), 3, stride=2, padding=1)


def block(state, name, x, stride):
    """One bottleneck block; the stride is on its 3x3 convolution."""
    out = torch.relu(batch_norm(state, f"{name}.bn1", F.conv2d(x, state[f"{name}.conv1.weight"])))
    out = F.conv2d(out, state[f"{name}.conv2.weight"], stride=stride, padding=1)
    out = torch.relu(batch_norm(state, f"{name}.bn2", out))
    out = batch_norm(state, f"{name}.bn3", F.conv2d(out, state[f"{name}.conv3.weight"]))
    if f"{name}.downsample.0.weight" in state:
        x = F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
        x = batch_norm(state, f"{name}.downsample.1", x)
    return torch.relu(out + x)


def non_local(state, name, x):
    """Attention over all pairs of positions, divided by their number."""
    count, channels, height, width = x.shape

    def project(part, source):
        convolved = F.conv2d(source, state[f"{name}.{part}.weight"], state[f"{name}.{part}.bias"])
        return convolved.reshape(count, -1, height * width)

    attention = project("theta", x).transpose(1, 2) @ project("phi", x) / (height * width)
    y = (project("g.0", x) @ attention.transpose(1, 2)).reshape(count, -1, height, width)
    return x + batch_norm(state, f"{name}.W.1", project("W.0", y).reshape(count, channels, height, width))


def shared_maps(state, x):
    """Output of each stage after the stems; non-local blocks follow the last residual blocks."""
    maps = {}
    for stage, stride in STRIDES.items():
        prefix = f"base_resnet.base.{stage}"
        count = len({name.split(".")[3] for name in state if name.startswith(f"{prefix}.")})
        added = len({name.split(".")[1] for name in state if name.startswith(f"NL_{stage[-1]}.")})
        for index in range(count):
            x = block(state, f"{prefix}.{index}", x, stride if index == 0 else 1)
            if index >= count - added:
                x = non_local(state, f"NL_{stage[-1]}.{index - count + added}", x)
        maps[stage] = x
    return maps


def maps(state, images, modality):
    """Every stage's map of images in [0, 1]."""
    first = stem(state, normalised(images), modality)
    return {"stem": first, **shared_maps(state, first)}


def unit(x):
    """Rows of length 1."""
    return torch.stack([row / torch.sqrt((row * row).sum()) for row in x])


def cross_entropy(logits, labels, smoothing=0.0):
    """Mean over rows of minus the smoothed target times the log-probability."""
    total = 0.0
    for row, label in zip(logits, labels.tolist(), strict=True):
        log = row - torch.log(torch.exp(row).sum())
        target = torch.full_like(row, smoothing / len(row))
        target[label] += 1 - smoothing
        total = total - (target * log).sum()
    return total / len(logits)
