"""What a worker does with a task."""

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
    """Do a job; whatever goes wrong comes back as one line."""
    try:
        return _perform(job, session)
    except VbenchError as error:
        return Failed(one_short_line(error))
    except (Exception, SystemExit) as error:
        # What is no refusal of ours is a defect or a broken device: the log gets all of it.
        traceback.print_exc()
        return Failed(one_short_line(reason(error)), sound=False)


def one_short_line(error: object) -> str:
    """The text of an error without line breaks, at most as long as a table can bear."""
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
            # A file that is gone or altered costs a fit that could have been saved, no more.
            with suppress(VbenchError):
                recorder.take(fit, _read(source))
    known = recorder.known(run)
    started = time.perf_counter()
    with resident_peak() as peak:
        record = recorder.record(run)
    seconds = time.perf_counter() - started if known is None else spent(record.cost)
    return Did(record.id, seconds, _learnt(run, record, recorder, known is None), peak[0])


def _learnt(run: Run, record: Record, recorder: Recorder, new: bool) -> dict[str, str]:
    """Where what the run learnt is stored; of a record that was found, if it is all that was learnt for it.

    Two fits of one attack, as a battery may have, share a file, which holds the later one.
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


_LOOK_SECONDS = 0.5


@dataclass(frozen=True)
class Start:
    """``log``: the file that takes whatever the worker prints; ``threads``: of torch."""

    runs: Path
    log: Path
    threads: int


def serve(connection: Connection, start: Start) -> None:
    """Say when all is loaded, then answer every job with its outcome, until the end of the connection."""
    # Ctrl-C reaches the whole terminal; the one in charge decides what becomes of its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
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


def _follow_parent() -> None:
    """A worker whose parent was killed would go on for hours, beside the one that a rerun starts."""
    parent = parent_process()
    while parent is not None and parent.is_alive():
        time.sleep(_LOOK_SECONDS)
    os._exit(1)


def _print_to(log: Path) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    # Through a link it would add to whatever file that names.
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0), 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


#: What a backward pass holds beside the maps of the forward pass.
_BACKWARD = 1.5


def estimate(run: Run) -> int:
    """Bytes of resident memory: the process as it is, training images, and a batch forward and back.

    The maps are measured on one image. On a GPU they are not in this memory and do not count.
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
    """Bytes of all that the victim's layers return for one image.

    Raises :class:`VbenchError` naming the victim when its forward pass fails.
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
