"""Running out of memory: half as many images, the same result, one line about it."""

from __future__ import annotations

import types

import pytest
import torch
from tiny import TinyVictim, make_training, pixels

from vbench.attacks.build import build_attack
from vbench.core.errors import VbenchError
from vbench.core.processes import Batches
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality, Side
from vbench.metrics.change import PerturbationSize
from vbench.run.craft import Plan, craft_side
from vbench.victims.embed import embed

COUNT = 50
THREAT = ThreatModel("8/255")


#: torch's own error, and those of the libraries below it.
OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
]


class Crowded(TinyVictim):
    """Has memory for some images at a time, more of them without gradients."""

    def __init__(
        self, room: int, with_gradients: int | None = None, error: Exception = OUT_OF_MEMORY[0]
    ) -> None:
        super().__init__()
        self.error = error
        self.room, self.with_gradients = room, with_gradients or room
        self.refused: list[int] = []

    def forward(self, images, modality, edits=None):
        if len(images) > (self.with_gradients if torch.is_grad_enabled() else self.room):
            self.refused.append(len(images))
            raise self.error
        return super().forward(images, modality, edits)


def stored():
    return pixels(COUNT, seed=4).permute(0, 2, 3, 1).contiguous()


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_embedding_goes_on_with_half_and_says_so(capsys, error):
    crowded = Crowded(room=14, error=error).double()
    found = embed(crowded, stored(), Modality.VISIBLE, what="clean query images")
    expected = embed(TinyVictim().double(), stored(), Modality.VISIBLE)
    assert torch.allclose(found.embeddings, expected.embeddings, atol=1e-7)
    assert torch.equal(found.predictions, expected.predictions)
    assert crowded.refused == [50, 25]
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "embedding clean query images: out of memory with 25 images at a time, now 12"


def test_a_single_image_too_many_is_one_clear_error(capsys):
    with pytest.raises(VbenchError, match="out of memory with a single image"):
        embed(Crowded(room=0).double(), stored(), Modality.VISIBLE, quiet=True)
    assert capsys.readouterr().err == ""


def bench_of(victim):
    """What craft_side() asks of a bench, over a tiny victim."""
    clean = embed(TinyVictim().double(), stored(), Modality.INFRARED)
    return types.SimpleNamespace(
        victim=victim,
        pixels={Side.QUERY: stored().numpy()},
        clean={Side.QUERY: clean},
        modality=lambda side: Modality.INFRARED,
        batch=64,
    )


@pytest.mark.parametrize(("room", "with_gradients"), [(100, 9), (9, 100)])
@pytest.mark.parametrize("spec", ["metric_ifgsm", "pgd"])
def test_crafting_goes_on_with_half_and_is_counted_once(room, with_gradients, spec):
    results = []
    for victim in (TinyVictim().double(), Crowded(room, with_gradients).double()):
        size = PerturbationSize()
        plan = Plan(build_attack(spec), THREAT, seed=1)
        found = craft_side(bench_of(victim), Side.QUERY, plan, size, quiet=True)
        results.append((found, size))
    (plain, size), (halved, other) = results
    assert torch.allclose(plain.embeddings, halved.embeddings, atol=1e-6)
    assert len(size.rows) == len(other.rows) == COUNT
    assert other.card() == pytest.approx(size.card())
    assert plain.evaluations == halved.evaluations == 30 * COUNT


def test_another_error_is_not_taken_for_it():
    other = RuntimeError("CUDA error: an illegal memory access")
    with pytest.raises(VbenchError, match="an illegal memory access"):
        embed(Crowded(room=0, error=other), stored(), Modality.VISIBLE)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=str)
def test_a_fit_names_its_batch(error):
    victim = Crowded(room=100, with_gradients=2, error=error).double()
    attack = build_attack("uap[evaluations=60,batch=6]")
    with pytest.raises(VbenchError, match=r"out of memory while learning on tiny; .*'uap\[batch=3\]'"):
        attack.fit(victim, make_training(TinyVictim().double()), THREAT, torch.Generator(), quiet=True)
    assert victim.training


def test_later_ranges_start_from_the_size_that_worked():
    done, batches = [], Batches("work", 8, quiet=True)
    for rows in (range(0, 8), range(8, 13)):
        for part in batches.over(rows):
            with batches.retried():
                if part.stop - part.start > 3:
                    raise torch.OutOfMemoryError
                done.append(range(part.start, part.stop))
    assert [row for part in done for row in part] == list(range(13))
    assert [len(part) for part in done] == [2, 2, 2, 2, 2, 2, 1]
