"""ImageNet starting weights: from a local file, or from torchvision when the user allows the download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torchvision
from torch import Tensor

from vbench.errors import BadInput
from vbench.victims.base import Victim
from vbench.victims.checkpoint import read_checkpoint
from vbench.victims.naming import bare
from vbench.victims.released import ReleasedLayout
from vbench.victims.residual import STAGES, ResidualStages

#: torchvision's ResNet names; every stem starts from the one ImageNet stem.
_TORCHVISION = ReleasedLayout(renames=((r"^(?:\w+_)?stem\.", ""),))


def start_from_imagenet(victim: Victim, source: Path | None = None, download: bool = False) -> None:
    """Fill the backbone of ``victim`` from ImageNet weights; the classifier of the file is left out.

    ``source`` is a local checkpoint of the victim's architecture (``victim.imagenet``), else torchvision's
    weights are fetched into torch's own cache, only with ``download``. Raises BadInput for a victim without
    such an architecture, a download that is not allowed, and tensors that do not fit.
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
    """Fill a ResNet trunk from a torchvision ResNet's state dict, every stem from its one.

    Stages that the trunk does not have and the classifier are left out. Raises BadInput for tensors that
    are missing, unexpected or of another shape.
    """
    absent = ("fc.", *(f"{stage}." for stage in STAGES if stage not in trunk.channels))
    wanted = {name: tensor for name, tensor in state.items() if not name.startswith(absent)}
    trunk.load_state_dict(_TORCHVISION.translate(wanted, trunk.state_dict(), where))
