"""Initialises a backbone from ImageNet weights."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vbench.core.errors import BadInput
from vbench.victims.base import Victim
from vbench.victims.checkpoint import read_checkpoint
from vbench.victims.layers import STAGES, ResidualStages
from vbench.victims.released import ReleasedLayout, bare

#: torchvision's ResNet names; every stem is initialised from the one ImageNet stem.
_TORCHVISION = ReleasedLayout(renames=((r"^(?:\w+_)?stem\.", ""),))


def start_from_imagenet(victim: Victim, source: Path | None = None, download: bool = False) -> None:
    """Fill the backbone of ``victim`` from ImageNet weights; the classifier of the file is left out.

    ``source`` is a local checkpoint of the victim's architecture (``victim.imagenet``), else torchvision's
    weights are downloaded into torch's own cache, only with ``download``. Raises BadInput for a victim
    without such an architecture, a download that is not allowed, and tensors that do not fit.
    """
    if victim.imagenet is None:
        raise BadInput(f"victim '{victim.name}' has no backbone that ImageNet weights would fit")
    if source is not None:
        victim.start_from(bare(read_checkpoint(source).state), str(source))
        return
    weights = torchvision.models.get_model_weights(victim.imagenet).IMAGENET1K_V1
    if not download:
        raise BadInput(
            f"ImageNet weights of {victim.imagenet} would have to be downloaded from {weights.url}; "
            "add --download to allow it, or name a local file"
        )
    victim.start_from(weights.get_state_dict(progress=True, check_hash=True), weights.url)


def fill_residual(trunk: ResidualStages, state: Mapping[str, Tensor], where: str) -> None:
    """Fill a ResNet trunk from a torchvision ResNet's state dict, every stem from its single stem.

    Stages that the trunk does not have and the classifier are left out. Raises BadInput for tensors that
    are missing, unexpected or of another shape.
    """
    absent = ("fc.", *(f"{stage}." for stage in STAGES if stage not in trunk.channels))
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith(absent)}
    trunk.load_state_dict(_TORCHVISION.translate(wanted, trunk.state_dict(), where))


def timm_renames(own: str = "", released: str = "") -> tuple[tuple[str, str], ...]:
    """Turns names of our transformer, which begin with ``own``, into timm's after ``released``."""
    renames = {
        "class_token": "cls_token",
        "positions": "pos_embed",
        r"project\.": "patch_embed.proj.",
        r"(blocks\.\d+)\.attention\.qkv\.": r"\1.attn.qkv.",
        r"(blocks\.\d+)\.attention\.project\.": r"\1.attn.proj.",
        r"(blocks\.\d+)\.expand\.": r"\1.mlp.fc1.",
        r"(blocks\.\d+)\.contract\.": r"\1.mlp.fc2.",
        "": "",
    }
    return tuple(("^" + re.escape(own) + ours, released + theirs) for ours, theirs in renames.items())


#: Names in timm's files, such as jx_vit_base_p16_224.
_TIMM = ReleasedLayout(
    renames=timm_renames(),
    unused=(r"^head\.", r"^pre_logits\."),
    marks=("cls_token", "patch_embed.proj.weight", "pos_embed"),
)

#: Names in torchvision's files, such as vit_b_16.
_TORCHVISION_VIT = ReleasedLayout(
    renames=(
        (r"^positions", "encoder.pos_embedding"),
        (r"^project\.", "conv_proj."),
        (r"^norm\.", "encoder.ln."),
        (r"^blocks\.(\d+)\.norm", r"encoder.layers.encoder_layer_\1.ln_"),
        (r"^blocks\.(\d+)\.attention\.qkv\.", r"encoder.layers.encoder_layer_\1.self_attention.in_proj_"),
        (
            r"^blocks\.(\d+)\.attention\.project\.",
            r"encoder.layers.encoder_layer_\1.self_attention.out_proj.",
        ),
        (r"^blocks\.(\d+)\.expand\.", r"encoder.layers.encoder_layer_\1.mlp.0."),
        (r"^blocks\.(\d+)\.contract\.", r"encoder.layers.encoder_layer_\1.mlp.3."),
    ),
    unused=(r"^heads\.",),
    marks=("class_token", "conv_proj.weight", "encoder.pos_embedding"),
)


def start_from_imagenet_vit(victim: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Fill ``victim.trunk`` from an ImageNet ViT's state dict in timm's or torchvision's layout.

    The file's classifier is left out; its square grid of positions is resized bilinearly to the victim's.
    ``where`` names the file in errors: BadInput for a victim without such a trunk, another layout, and
    tensors that are missing, unexpected or of another shape.
    """
    trunk = getattr(victim, "trunk", None)
    if trunk is None or not hasattr(trunk, "grid"):
        raise BadInput(f"{where}: this victim has no vision transformer that ImageNet weights would fit")
    layout = next((one for one in (_TIMM, _TORCHVISION_VIT) if one.recognises(state)), None)
    if layout is None:
        raise BadInput(f"{where}: not an ImageNet vision transformer in timm's or torchvision's layout")
    name = layout.released_name("positions")
    resized = {**state, name: resize_positions(state[name], trunk.grid, where)}
    trunk.load_state_dict(layout.translate(resized, trunk.state_dict(), where))


def resize_positions(positions: Tensor, grid: tuple[int, int], where: str) -> Tensor:
    """Resize 1 x (1 + s s) x D positions, the class token's first, to 1 x (1 + h w) x D, bilinearly.

    ``grid`` is (h, w). Raises BadInput if the stored grid is not square.
    """
    side = math.isqrt(max(positions.shape[1] - 1, 0)) if positions.ndim == 3 else 0
    if side == 0 or positions.shape[1] != 1 + side * side:
        raise BadInput(
            f"{where}: positions must be 1 x (1 + a square) x channels, got {tuple(positions.shape)}"
        )
    stored = positions[:, 1:].transpose(1, 2).unflatten(2, (side, side))
    resized = F.interpolate(stored, size=grid, mode="bilinear", align_corners=False)
    return torch.cat((positions[:, :1], resized.flatten(2).transpose(1, 2)), dim=1)
