"""Which pool does the work, made when it is known that there is work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vbench.progress import say
from vbench.sweep.load import SuiteFile
from vbench.sweep.pool import Pool


def local_engine(
    file: SuiteFile, runs: Path, jobs: int | None, quiet: bool = False
) -> Callable[[int, Path], Pool]:
    """Processes of this machine, as many as its cores, GPUs and the suite's resources allow."""
    from vbench.sweep.local import LocalPool
    from vbench.sweep.machine import shares

    def make(tasks: int, folder: Path) -> Pool:
        split = shares(file.suite.resources, jobs, file.suite.device, tasks)
        if split.note:
            say(f"note: {split.note}", quiet)
        return LocalPool(split.jobs, split.threads, split.gpus, runs, folder / "logs")

    return make


def ray_engine(file: SuiteFile, address: str | None) -> Callable[[int, Path], Pool]:
    """Workers of a Ray cluster that runs already; raises :class:`BadInput` where Ray is not installed."""
    from vbench.sweep.ray_engine import RayPool, require_ray

    require_ray()
    return lambda tasks, folder: RayPool(address, file.suite.resources)
