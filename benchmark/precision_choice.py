"""Which precision a victim computes in: the one asked for, or the fastest that leaves its ranking alone."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from vbench.embed import BATCH, embed, to_images
from vbench.environment import environment
from vbench.errors import BadInput, unknown_name
from vbench.files import lock_of, write_atomically
from vbench.parallel.exchange import told
from vbench.parallel.group import leads, together
from vbench.precision import DTYPES, Precision, compute_in
from vbench.progress import say
from vbench.record import config_id
from vbench.types import Side
from vbench.victims.base import example_tensor, frozen
from vbench.workbench import Workbench

#: Points of clean Rank-1 that a precision must not reach, and the share of time it must save to be taken.
MOST_POINTS = 0.5
LEAST_GAIN = 0.05
_REPEATS = 3


@dataclass(frozen=True)
class Trial:
    """``seconds`` of one pass forward and backward over a batch; ``rank1``: clean, percent."""

    precision: Precision
    seconds: float
    rank1: float


def choose(trials: Sequence[Trial]) -> Trial:
    """The fastest trial, if it pays and changes Rank-1 by less than half a point from the first one's."""
    reference = trials[0]
    fit = [trial for trial in trials if abs(trial.rank1 - reference.rank1) < MOST_POINTS]
    best = min(fit, key=lambda trial: trial.seconds)
    return best if best.seconds <= (1 - LEAST_GAIN) * reference.seconds else reference


def candidates(precision: str, channels_last: bool | None, device: torch.device) -> list[Precision]:
    """What may be chosen, the reference first; a single one on CPU, where nothing is tried unasked."""
    if precision not in ("auto", *DTYPES):
        raise unknown_name("precision", precision, ("auto", *DTYPES))
    gpu = device.type == "cuda"
    if precision == "float16" and not gpu:
        raise BadInput("--precision float16 needs a GPU; on a CPU use bfloat16")
    types, layouts = [precision], [bool(channels_last)]
    if precision == "auto":
        half = "bfloat16" if gpu and torch.cuda.is_bf16_supported() else "float16"
        types = ["float32", half] if gpu else ["float32"]
    if channels_last is None and gpu:
        layouts = [False, True]
    return [Precision(*pair) for pair in product(types, layouts)]


def settle(
    bench: Workbench, precision: str, channels_last: bool | None, cache: Path, quiet: bool = False
) -> None:
    """Set the precision of a workbench's victim, before it has embedded anything.

    ``precision``: one of :data:`vbench.precision.DTYPES` or "auto"; ``channels_last``: None for "auto". On a
    GPU what is left to "auto" is tried once and kept in the folder ``cache``, so that a configuration keeps
    its record; on CPU it is float32 in the ordinary layout. Raises :class:`BadInput` for another precision.
    """
    options = candidates(precision, channels_last, example_tensor(bench.victim).device)
    chosen = options[0] if len(options) == 1 else _tried_once(bench, options, cache, quiet)
    compute_in(bench.victim, chosen)


def measure(bench: Workbench, precision: Precision) -> Trial:
    """Time one batch and rank all clean images in a precision; the victim is left in it."""
    compute_in(bench.victim, precision)
    found = {
        side: embed(bench.victim, pixels, bench.modality(side), quiet=True).embeddings
        for side, pixels in bench.pixels.items()
    }
    ranked = bench.rank(found)
    return Trial(precision, _seconds(bench), 100 * sum(trial.rank(1) for trial in ranked) / len(ranked))


def _seconds(bench: Workbench) -> float:
    victim, modality = bench.victim, bench.modality(Side.QUERY)
    images = to_images(bench.pixels[Side.QUERY][:BATCH], victim)
    times = []
    with frozen(victim), torch.enable_grad():
        for _ in range(_REPEATS + 1):
            start, variable = time.perf_counter(), images.detach().requires_grad_(True)
            torch.autograd.grad(victim(variable, modality).embedding.sum(), variable)
            if images.is_cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    # The first pass also pays for choosing kernels.
    return statistics.median(times[1:])


def _tried_once(bench: Workbench, options: Sequence[Precision], cache: Path, quiet: bool) -> Precision:
    place = {
        key: environment(example_tensor(bench.victim).device)[key] for key in ("versions", "device_name")
    }
    known = [option.card() for option in options]
    key = {"victim": bench.weights_hash, "data": bench.data_card(), "place": place, "options": known}
    path = cache / f"{config_id(key)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two that try at once would disturb each other's times, and might disagree; the processes of one run try
    # together.
    with lock_of(path) if leads() else nullcontext():
        return told(lambda: _kept(path, options)) or _tried(bench, options, path, quiet)


def _kept(path: Path, options: Sequence[Precision]) -> Precision | None:
    try:
        kept = Precision(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return kept if kept in options else None


def _tried(bench: Workbench, options: Sequence[Precision], path: Path, quiet: bool) -> Precision:
    try:
        with together():
            trials = [measure(bench, option) for option in options]
    except torch.cuda.OutOfMemoryError:
        say(f"{bench.victim.name}: no memory to try precisions in; {options[0]}", quiet)
        return options[0]
    best = told(lambda: choose(trials))
    gain, first = trials[0].seconds / best.seconds, trials[0].rank1
    gained = f"{gain:.2f} times as fast as {options[0]}, clean Rank-1 {first:.1f} -> {best.rank1:.1f}"
    say(f"{bench.victim.name} computes in {best.precision}: {gained}", quiet)
    if leads():
        write_atomically(path, json.dumps(best.precision.card()))
    return best.precision
