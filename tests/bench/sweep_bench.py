"""Time a sweep of 16 runs on one local process and on two, one after the other: run as a script.

Other work on the machine takes from both, and more from two; so the cores that a sweep was given (processor
seconds per second) stand beside its time, and what the processor seconds alone would allow.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vbench.data.synthetic import write_dataset
from vbench.victims.agw import AGW
from vbench.victims.checkpoint import write_checkpoint

SIZE = (64, 32)
BAR = 1.6
SUITE = """\
victims: {name: agw, weights: agw.safetensors}
datasets: {name: sysu, root: data}
attacks: ['metric_ifgsm[steps=20]', 'pgd[steps=20]']
eps: [4/255, 8/255]
seeds: [0, 1, 2, 3]
ignore_gates: true
resources: {cpus: 1}
"""


def sweep(folder: Path, jobs: int, expected: str = "16 runs: 16 done (16 of them now)") -> list[float]:
    """Run the suite for that many processes; wall-clock and processor seconds of all of them."""
    code = "from vbench.cli import main; main()"
    arguments = ["sweep", folder / "suite.yaml", "--jobs", jobs, "--runs", folder / f"runs-{jobs}", "--quiet"]
    before, start = _processor(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "VBENCH_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
    )
    took = [time.perf_counter() - start, _processor() - before]
    if expected not in done.stdout:
        raise SystemExit(f"the sweep failed:\n{done.stdout}\n{done.stderr}")
    return took


def _processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def prepare(folder: Path) -> None:
    """A small set, a victim without training, and the suite."""
    write_dataset("sysu", folder / "data", ids=20, seed=0, size=SIZE, test_ids=16, quiet=True)
    victim = AGW(num_classes=20, **AGW.THIN)
    about = {"victim": "agw", "options": victim.describe()}
    write_checkpoint(folder / "agw.safetensors", victim.state_dict(), about)
    (folder / "suite.yaml").write_text(SUITE)


def main() -> None:
    """Print the table."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"16 runs, {cores} cores, load {os.getloadavg()[0]:.1f}; one thread a process")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        one, two = sweep(folder, 1), sweep(folder, 2)
        # All is done: what is left is the process in charge, which works before the others can.
        alone = sweep(folder, 2, "16 runs: 16 done\n")[1]
    for jobs, (wall, processor) in ((1, one), (2, two)):
        print(
            f"{jobs} local process{'es' if jobs > 1 else '  '}  {wall:7.1f} s"
            f"   {processor:7.1f} processor seconds   {processor / wall:.2f} cores"
        )
    scaling = one[0] / two[0]
    print(f"scaling {scaling:.2f}x (bar {BAR}x), with {two[1] / one[1] * scaling:.2f}x the cores")
    free = one[1] / (alone + (two[1] - alone) / 2)
    print(f"by processor seconds, with a core for each process: {free:.2f}x")


if __name__ == "__main__":
    main()
