"""The threat model: norm, budget (eps) and side, and the one place that enforces them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from vbench.core.errors import BadInput, VbenchError, shortened
from vbench.core.types import Side

if TYPE_CHECKING:
    from torch import Tensor


# Matches 8/255, 0.03 and 3e-2. Exponents are short: one of nine digits would fill all memory.
_NUMBER = re.compile(r"[+-]?[0-9./]{1,100}(e[+-]?[0-9]{1,2})?", re.IGNORECASE)

#: Bounds the Euclidean norm of any change of an image in [0, 1], up to 5000 x 5000 pixels.
_LARGEST_L2 = 10_000


def read_fraction(text: str) -> Fraction:
    """The exact value of a number in a text; raises ValueError for anything else, quickly for any text.

    >>> read_fraction("3e-2")
    Fraction(3, 100)
    """
    if not _NUMBER.fullmatch(text):
        raise ValueError("not a number")
    try:
        return Fraction(text)
    except ZeroDivisionError as error:
        raise ValueError("division by zero") from error


def parse_budget(text: str | float | Fraction, norm: str = "linf") -> Fraction:
    """Read a budget such as "8/255" or "0.03", in [0, 1] pixel units.

    Raises :class:`BadInput` for anything that is not a finite positive number, for L_inf budgets above 1,
    which are almost always meant in 8-bit levels, and for other norms above 10000.
    """
    try:
        value = text if isinstance(text, Fraction) else read_fraction(str(text).replace(" ", ""))
    except ValueError as error:
        raise BadInput(f"eps '{shortened(str(text))}' is not a number; write it as 8/255 or 0.03") from error
    if value <= 0:
        raise BadInput(f"eps '{text}' must be above 0, for instance 8/255")
    if norm == "linf" and value > 1:
        hint = f"; did you mean {text}/255?" if value <= 255 and "/" not in str(text) else ""
        raise BadInput(f"eps {text} is above 1, the whole pixel range{hint}")
    if value > _LARGEST_L2:
        raise BadInput(f"eps {text} is above {_LARGEST_L2}, more than any image in [0, 1] can change")
    return value


def show_budget(value: Fraction, norm: str = "linf") -> str:
    """Write a budget the way the field does: an L_inf budget as n/255 if that is exact, others as decimals.

    >>> show_budget(Fraction(8, 255)), show_budget(Fraction(3, 100)), show_budget(Fraction(2), "l2")
    ('8/255', '0.03', '2')
    """
    levels = value * 255
    exact = norm == "linf" and levels.denominator == 1
    return f"{levels}/255" if exact else f"{float(value):g}"


def budget_text(threat: Mapping[str, Any]) -> str:
    """The budget in a threat model's card, for display; older cards write an L2 budget of 2 as "510/255"."""
    text = str(threat["eps"])
    try:
        return show_budget(parse_budget(text, "l2"), "l2") if threat["norm"] == "l2" else text
    except BadInput:
        return text


_LEVELS = 255

#: The L_inf budget of a threat model that gives none.
_USUAL = Fraction(8, _LEVELS)


@dataclass(frozen=True)
class ThreatModel:
    """What the attacker may do to the pixels.

    ``eps`` is in [0, 1] pixel units ("8/255" is read as a fraction); for ``l2`` it bounds the Euclidean norm
    over one image. Left out it is 8/255, and only ``linf`` can leave it out. ``side`` says which images of
    the ranking are changed. With ``quantize`` the changed images are 8-bit, as any stored or transmitted
    image is. Raises :class:`BadInput` for an unknown norm or side and for a budget outside the range of
    :func:`parse_budget`, or below one level with ``quantize``.
    """

    eps: Fraction = None  # type: ignore[assignment]
    norm: Literal["linf", "l2"] = "linf"
    side: Side = Side.QUERY
    quantize: bool = True

    if TYPE_CHECKING:
        # Accepts more types than the fields have: __post_init__ converts texts and numbers.
        def __init__(
            self,
            eps: Fraction | str | float | None = None,
            norm: str = "linf",
            side: Side | str = Side.QUERY,
            quantize: bool = True,
        ) -> None: ...

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise BadInput(f"unknown norm '{self.norm}'; known: l2, linf")
        if self.eps is None and self.norm != "linf":
            raise BadInput(
                f"norm {self.norm} has no usual budget: give eps, the Euclidean norm of the change of an "
                "image in [0, 1], for instance 2"
            )
        eps = _USUAL if self.eps is None else self.eps
        object.__setattr__(self, "eps", parse_budget(eps, self.norm))
        try:
            object.__setattr__(self, "side", Side(self.side))
        except ValueError as error:
            known = ", ".join(side.value for side in Side)
            raise BadInput(f"unknown side '{self.side}'; known: {known}") from error
        if self.quantize and self.norm == "linf" and self.levels == 0:
            raise BadInput(
                f"eps {show_budget(self.eps)} is below one 8-bit level (1/255); raise it or use --no-quantize"
            )

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides of a ranking whose images are changed."""
        return (Side.QUERY, Side.GALLERY) if self.side is Side.BOTH else (self.side,)

    @property
    def epsilon(self) -> float:
        """The budget as a float; with ``quantize`` an L_inf budget is rounded down to whole 8-bit levels."""
        return self.levels / _LEVELS if self.quantize and self.norm == "linf" else float(self.eps)

    @property
    def levels(self) -> int:
        """Number of whole 8-bit levels in an L_inf budget."""
        # A float 8/255 may be slightly below eight levels.
        return int(self.eps * _LEVELS + Fraction(1, 10**6))

    def project(self, clean: Tensor, adversarial: Tensor) -> Tensor:
        """Project float images onto the budget and [0, 1], without rounding; differentiable."""
        change = adversarial - clean
        if self.norm == "linf":
            change = change.clamp(-self.epsilon, self.epsilon)
        else:
            norm = change.flatten(1).norm(dim=1).clamp_min(1e-12).view(-1, 1, 1, 1)
            change = change * (self.epsilon / norm).clamp_max(1.0)
        return (clean + change).clamp(0.0, 1.0)

    def spent(self, clean: Tensor, adversarial: Tensor) -> Tensor:
        """Each image's change as a fraction of the budget, N values; above 1 if it exceeds the budget."""
        change = (adversarial - clean).flatten(1)
        size = change.abs().amax(1) if self.norm == "linf" else change.norm(dim=1)
        return size / self.epsilon

    def enforce(self, clean: Tensor, adversarial: Tensor) -> Tensor:
        """Adversarial images (N x 3 x H x W) as the victim will see them: in budget, in [0, 1], 8-bit.

        ``clean`` must lie on the 8-bit grid when ``quantize`` is on. Raises :class:`VbenchError` for a
        wrong shape or non-finite pixels.
        """
        if adversarial.shape != clean.shape:
            raise VbenchError(
                f"adversarial images have shape {tuple(adversarial.shape)}, not {tuple(clean.shape)}"
            )
        import torch

        bad = (~torch.isfinite(adversarial)).sum().item()
        if bad:
            raise VbenchError(f"adversarial images hold {bad} non-finite pixels")
        projected = self.project(clean, adversarial.to(clean.dtype))
        return self._on_grid(clean, projected) if self.quantize else projected

    def _on_grid(self, clean: Tensor, projected: Tensor) -> Tensor:
        base = (clean * _LEVELS).round()
        if self.norm == "linf":
            change = ((projected * _LEVELS).round() - base).clamp(-self.levels, self.levels)
        else:
            # Rounding toward the clean image can only shrink the Euclidean norm.
            change = ((projected - clean) * _LEVELS).trunc()
        return (base + change).clamp(0, _LEVELS) / _LEVELS

    def check(self, clean: Tensor, adversarial: Tensor) -> None:
        """Raise :class:`VbenchError` if images about to be shown to a victim break the budget.

        With ``quantize`` an L_inf budget is compared on integers, without a tolerance.
        """
        if not bool(((adversarial >= 0) & (adversarial <= 1)).all()):
            raise VbenchError("adversarial images leave [0, 1]")
        import torch

        if self.quantize:
            grid = adversarial * _LEVELS
            if not torch.allclose(grid, grid.round(), atol=1e-3, rtol=0):
                raise VbenchError("adversarial images are not on the 8-bit grid")
        if self.norm == "linf" and self.quantize:
            worst = ((adversarial * _LEVELS).round() - (clean * _LEVELS).round()).abs().max().item()
            if worst > self.levels:
                raise VbenchError(f"budget broken: a pixel moved {worst:.0f} levels, allowed {self.levels}")
            return
        change = (adversarial - clean).flatten(1)
        worst = (change.abs().amax(1) if self.norm == "linf" else change.norm(dim=1)).max().item()
        if worst > float(self.eps) + 1e-5:
            raise VbenchError(f"budget broken: {self.norm} change {worst:.5f}, allowed {float(self.eps):.5f}")

    def card(self) -> dict[str, object]:
        """JSON-able description, as stored with every result."""
        return {
            "norm": self.norm,
            "eps": show_budget(self.eps, self.norm),
            "eps_value": float(self.eps),
            "side": self.side.value,
            "quantize": self.quantize,
        }
