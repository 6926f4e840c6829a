"""Self-metric attack: away from where the image itself was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from vbench.attacks.iterative import MomentumAttack
from vbench.attacks.metric import GuideKind, SteppedMetricAttack
from vbench.parameters import param

PAPER = (
    "Bouniot et al., Vulnerability of Person Re-Identification Models to Metric Adversarial Attacks, "
    "CVPRW 2020"
)


@dataclass(frozen=True)
class BouniotAttack(SteppedMetricAttack, MomentumAttack):
    """The schedule of both attacks of the paper: fifteen steps of eps/5, the authors' 1/255 at 5/255."""

    paper: ClassVar[str] = PAPER
    start_scale: ClassVar[float] = 1.0
    reach: ClassVar[float] = 3.0

    steps: Annotated[int, Field(ge=1)] | None = param(
        15, "gradient steps; none means int(min(eps + 4, 1.25 eps)), eps in 8-bit levels"
    )
    step_size: Annotated[float, Field(gt=0)] | None = param(
        None, "pixel units; none means that all steps reach 3 eps"
    )


@dataclass(frozen=True)
class SMA(BouniotAttack):
    """Raise the squared distance to the own clean embedding (Bouniot et al. 2020, algorithm 1).

    It needs no other image. It is ``metric_ifgsm`` with its own guide and the same code, on another schedule:
    it starts from noise of the whole budget instead of half of it, and takes fifteen steps of eps/5 instead
    of ten of eps/8. ODFA climbs the same hill where embeddings have unit length.
    """

    name: ClassVar[str] = "sma"
    version: ClassVar[int] = 1
    summary: ClassVar[str] = "away from the own clean embedding, from a random start in the whole budget"
    guides: ClassVar[GuideKind] = "own"
