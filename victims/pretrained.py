"""ImageNet starting weights for a two-stream trunk, from a local file only."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from vbench.errors import BadInput
from vbench.victims.checkpoint import read_checkpoint
from vbench.victims.released import ReleasedLayout

#: torchvision's ResNet names; both stems start from the one ImageNet stem.
_TORCHVISION = ReleasedLayout(renames=((r"^(?:visible_stem|infrared_stem)\.", ""),))


def start_from_imagenet(victim: nn.Module, path: Path) -> None:
    """Fill ``victim.trunk`` from a torchvision ResNet checkpoint, both stems from its one.

    The classifier ``fc`` of the file is left out. Raises BadInput for a victim without such a trunk, and
    for tensors that are missing, unexpected or of another shape.
    """
    trunk = getattr(victim, "trunk", None)
    if trunk is None or not hasattr(trunk, "visible_stem"):
        raise BadInput(f"{path}: this victim has no two-stream ResNet trunk that ImageNet weights would fit")
    state = {
        name: tensor for name, tensor in read_checkpoint(path).state.items() if not name.startswith("fc.")
    }
    trunk.load_state_dict(_TORCHVISION.translate(state, trunk.state_dict(), str(path)))
