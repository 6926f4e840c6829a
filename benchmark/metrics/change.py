"""Distances between clean and adversarial images, for records: L_inf, L2, PSNR, SSIM, changed values."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of N x 3 x H x W images in [0, 1]: one value per image, at most 1.

    Wang et al. 2004: Gaussian window of 11 pixels and sigma 1.5 over the valid area, K1 = 0.01, K2 = 0.03.
    """
    size = min(11, *a.shape[2:])
    offset = torch.arange(size, dtype=a.dtype, device=a.device) - (size - 1) / 2
    line = torch.exp(-(offset**2) / (2 * 1.5**2))
    kernel = (line / line.sum()).view(1, 1, 1, size)
    # The window is a product of two lines: 22 products a pixel instead of 121. All maps at once: few kernels.
    maps = torch.cat((a, b, a * a, b * b, a * b)).flatten(0, 1)[:, None]
    blurred = F.conv2d(F.conv2d(maps, kernel), kernel.transpose(2, 3))
    mean_a, mean_b, square_a, square_b, product = blurred.view(5, *a.shape[:2], *blurred.shape[2:])
    var_a, var_b, covariance = square_a - mean_a**2, square_b - mean_b**2, product - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2)
    return (luminance * structure).mean((1, 2, 3))


@dataclass
class PerturbationSize:
    """Metrics of pairs of clean and adversarial images in [0, 1], collected batch by batch.

    ``rows``: per image, in the order of adding: linf, l2, PSNR, SSIM, the share of changed values, and the
    share of the budget that the attack used before projection.
    """

    rows: Tensor = field(default_factory=lambda: torch.zeros(0, 6, dtype=torch.float64), repr=False)

    def add(self, clean: Tensor, adversarial: Tensor, asked: Tensor) -> None:
        """Add one batch (N x 3 x H x W).

        ``asked``: N shares of the budget that the attack used before its images were projected onto it.
        """
        change = (adversarial - clean).flatten(1)
        # Unchanged images would have an infinite PSNR; 100 dB stands for "identical".
        psnr = -10 * torch.log10(change.square().mean(1).clamp_min(1e-10))
        metrics = (
            change.abs().amax(1),
            change.norm(dim=1),
            psnr,
            ssim(clean, adversarial),
            (change != 0).to(change).mean(1),
            asked.to(change),
        )
        self.rows = torch.cat([self.rows, torch.stack(metrics, 1).double().cpu()])

    def card(self) -> dict[str, float]:
        """Means over images; zeros if there are none.

        ``linf_levels`` is the largest change, in 8-bit levels; ``asked`` the largest share of the budget that
        the attack used before projection, above 1 if projection was needed.
        """
        if not len(self.rows):
            return dict.fromkeys(("linf_levels", "l2", "psnr_db", "ssim", "changed_share", "asked"), 0.0)
        _, l2, psnr, similar, changed, _ = self.rows.mean(0).tolist()
        largest, asked = self.rows[:, 0].max().item(), self.rows[:, 5].max().item()
        return {
            "linf_levels": largest * 255,
            "l2": l2,
            "psnr_db": psnr,
            "ssim": similar,
            "changed_share": changed,
            "asked": asked,
        }
