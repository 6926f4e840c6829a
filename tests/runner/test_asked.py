"""What an attack takes before it is held to its budget: recorded, and told where it is too much."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from tiny import SIZE, TinyVictim, pixels

from vbench.attacks.noise import Noise
from vbench.core.threat import ThreatModel
from vbench.data import open_dataset
from vbench.data.synthetic import write_dataset
from vbench.metrics.change import PerturbationSize
from vbench.reports.tables import report
from vbench.run.bench import Bench
from vbench.run.execute import Run


@dataclass(frozen=True)
class Brighter(Noise):
    """Hands over images that are brighter by a fixed value, whatever the budget."""

    name: ClassVar[str] = "brighter"
    by: float = 0.0

    def craft(self, victim, images, modality, context):
        return images + self.by


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("asked") / "data"
    write_dataset("sysu", root, ids=8, seed=3, size=SIZE, test_ids=4, quiet=True)
    return Bench(open_dataset("sysu", root), TinyVictim().double().eval(), None, quiet=True)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0, 3.0])
def test_the_share_of_a_budget_is_told_by_its_norm(norm, share):
    clean = pixels(4, seed=1).double() / 255
    eps = 8 / 255 if norm == "linf" else 1.5
    by = share * eps / (1 if norm == "linf" else math.sqrt(clean[0].numel()))
    found = ThreatModel(eps, norm).spent(clean, clean + by)
    assert found.shape == (4,)
    assert torch.allclose(found, torch.full((4,), share).double(), atol=1e-9)


def test_a_budget_between_two_levels_counts_as_the_lower():
    clean = torch.full((1, 3, 2, 2), 0.5).double()
    assert ThreatModel("9/510").spent(clean, clean + 4.5 / 255).item() == pytest.approx(4.5 / 4)


@pytest.mark.parametrize(("norm", "eps"), [("linf", "8/255"), ("l2", "0.05")])
@pytest.mark.parametrize("by", [0, 4 / 255])
def test_an_attack_that_changed_nothing_is_warned_of(bench, norm, eps, by):
    record = Run(bench, Brighter(by=by), ThreatModel(eps, norm), ignore_gates=True).execute(quiet=True)[0]
    # An l2 change of 0.05 over a whole image is less than a level of each pixel.
    unchanged = not by or norm == "l2"
    warning = f"attack inactive (no pixel of any image changed within {norm} {eps})"
    assert (warning in record.warnings) == (record.size["linf_levels"] == 0) == unchanged
    assert (warning in report([record], "markdown")) == unchanged


@pytest.mark.parametrize(("by", "asked"), [(4 / 255, 0.5), (8 / 255, 1.0), (24 / 255, 3.0)])
def test_a_record_says_what_was_asked_for_and_warns_of_too_much(bench, by, asked):
    record = Run(bench, Brighter(by=by), ThreatModel("8/255"), ignore_gates=True).execute(quiet=True)[0]
    assert record.size["asked"] == pytest.approx(asked, abs=1e-4)
    assert record.size["linf_levels"] == pytest.approx(min(by * 255, 8), abs=1e-3)
    found = [line for line in record.warnings if "the attack returned" in line]
    expected = "the attack returned changes of up to 3.00 budgets; they were cut to the budget"
    assert found == ([expected] if asked > 1 else [])


def test_the_largest_of_all_images_counts():
    size, clean = PerturbationSize(), pixels(3, seed=2).double() / 255
    size.add(clean, clean, torch.tensor([0.1, 2.5, 0.2]))
    size.add(clean, clean, torch.tensor([0.3, 0.1, 0.0]))
    assert size.card()["asked"] == pytest.approx(2.5)
    assert PerturbationSize().card()["asked"] == 0
