"""The worker of a sweep: its process, and how it does a job."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import nn

from vbench.attacks.base import Battery, UniversalAttack
from vbench.attacks.perturbation import Perturbation
from vbench.core.environment import resident_peak
from vbench.core.errors import VbenchError
from vbench.core.files import cache_folder
from vbench.core.isolation import contained, twin
from vbench.core.plugins import reason
from vbench.core.text import one_line
from vbench.core.types import Modality
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.spec import ModelSpec, RunSpec, Setup
from vbench.run.bench import Bench
from vbench.run.builtin import thin_weights
from vbench.run.execute import Run
from vbench.run.prepare import Opener
from vbench.run.session import Recorder, Session
from vbench.sweep.engine import (
    Did,
    Do,
    Failed,
    Identity,
    Job,
    Open,
    Opened,
    Outcome,
    Ready,
    Train,
    WriteSet,
    spent,
)
from vbench.victims.base import example_tensor, frozen
from vbench.victims.build import read_victim
from vbench.victims.embed import BATCH

if TYPE_CHECKING:
    from vbench.records.record import Record


_LONGEST_REASON = 500


def perform(job: Job, session: Session) -> Outcome:
    """Do a job; an error is returned as :class:`Failed`, with one line."""
    try:
        return _perform(job, session)
    except VbenchError as error:
        return Failed(one_short_line(error))
    except (Exception, SystemExit) as error:
        # A defect or a broken device: the traceback goes to the log.
        traceback.print_exc()
        return Failed(one_short_line(reason(error)), sound=False)


def one_short_line(error: object) -> str:
    """The text of an error without line breaks, shortened to fit a table."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def _perform(job: Job, session: Session) -> Outcome:
    if isinstance(job, WriteSet | Train):
        _prepare(job)
        return Ready()
    if isinstance(job, Open):
        return Opened({task.key: _identity(session, task) for task in job.tasks})
    return _do(job, session)


def _prepare(job: WriteSet | Train) -> None:
    model = job.model if isinstance(job, Train) else ModelSpec("")
    dataset = Opener(Setup(job.data, model)).open(cache_folder(), quiet=True)
    if isinstance(job, Train):
        size = job.data.size or SyntheticSet().size
        thin_weights(read_victim(model.victim), dataset, cache_folder(), size, quiet=True)


def _identity(session: Session, task: RunSpec) -> Identity | str:
    from vbench.records.record import config_id

    try:
        run = session.ready(task)
        return Identity(config_id(run.config()), tuple(run.fits()), estimate(run))
    except VbenchError as error:
        return one_short_line(error)


def _do(job: Do, session: Session) -> Did:
    run, recorder = session.ready(job.task), session.recorder
    for fit, source in job.learnt.items():
        if recorder.learnt(fit) is None:
            # If the file is missing or altered, the run learns the perturbation itself.
            with suppress(VbenchError):
                recorder.take(fit, _read(source))
    known = recorder.known(run)
    started = time.perf_counter()
    with resident_peak() as peak:
        record = recorder.record(run)
    seconds = time.perf_counter() - started if known is None else spent(record.cost)
    return Did(record.id, seconds, _learnt(run, record, recorder, known is None), peak[0])


def _learnt(run: Run, record: Record, recorder: Recorder, new: bool) -> dict[str, str]:
    """Fit id -> file of each perturbation that the run learnt; for a found record only if it has one fit.

    Two fits of one attack, as in a battery, share a file, which holds the later one.
    """
    fits, store = run.fits(), recorder.store
    if store is None:
        return {}
    if new:
        made = {fit: recorder.learnt(fit) for fit in fits}
        names = {str(one.provenance["attack"]): fit for fit, one in made.items() if one is not None}
    else:
        names = {run.attack.name: fits[0]} if len(fits) == 1 and run.attack.universal else {}
    paths = {fit: store.perturbation_path(record, attack) for attack, fit in names.items()}
    return {fit: path.relative_to(store.root).as_posix() for fit, path in paths.items()}


def _read(source: str | bytes) -> Perturbation:
    if isinstance(source, str):
        return Perturbation.load(Path(source))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "learnt.safetensors"
        path.write_bytes(source)
        return Perturbation.load(path)


_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Start:
    """``log``: the file for everything that the worker prints; ``threads``: number of torch threads."""

    runs: Path
    log: Path
    threads: int


def serve(connection: Connection, start: Start) -> None:
    """Send "up" when everything is loaded, then an outcome for every job, until the connection is closed."""
    # The terminal sends Ctrl-C to all its processes; the driver ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_to(start.log)

    import torch

    torch.set_num_threads(start.threads)
    session = Session(start.runs, quiet=True)
    connection.send("up")
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {one_line(job.title)}", flush=True)
        connection.send(perform(job, session))


def _end_with_parent() -> None:
    """End this process when its parent is gone, so that it does not run next to a restarted sweep."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(_POLL_SECONDS)
    os._exit(1)


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Never writes through a link to another file.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


#: Memory of a forward and backward pass, relative to the feature maps of the forward pass.
_BACKWARD = 1.5


def estimate(run: Run) -> int:
    """Estimated bytes of resident memory: this process, training images, a forward and backward pass.

    Feature maps are measured on one image; on a GPU they are not counted.
    """
    origin = run.source or run.bench
    total = float(psutil.Process().memory_info().rss)
    if isinstance(run.attack, UniversalAttack | Battery) or "training" in run.attack.knowledge:
        dataset = origin.dataset
        images = len(dataset.train_visible) + len(dataset.train_infrared)
        height, width = origin.victim.input_size
        total += images * height * width * 3
    if example_tensor(origin.victim).device.type == "cpu":
        total += BATCH * map_bytes(origin) * _BACKWARD
    return int(total)


def map_bytes(bench: Bench) -> int:
    """Bytes of the outputs of all the victim's layers for one image.

    Raises :class:`VbenchError` with the victim's name if its forward pass fails.
    """
    victim, total = twin(bench.victim), 0

    def count(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal total
        if isinstance(output, torch.Tensor):
            total += output.numel() * output.element_size()

    parameter = example_tensor(victim)
    image = torch.full((1, 3, *victim.input_size), 0.5, device=parameter.device, dtype=parameter.dtype)
    for module in victim.modules():
        if not any(module.children()):
            module.register_forward_hook(count)
    with contained(f"victim '{victim.name}'", seed=0), frozen(victim), torch.no_grad():
        victim(image, Modality.VISIBLE)
    return total
