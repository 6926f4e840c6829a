"""What a run ran on: versions, device and memory; stored with every record, shown by ``vbench doctor``."""

from __future__ import annotations

import platform
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vbench.core import __version__

if TYPE_CHECKING:
    import torch

_PACKAGES = (
    "torch",
    "torchvision",
    "adversarial-robustness-toolbox",
    "torchattacks",
    "numpy",
    "pandas",
    "tabulate",
    "pillow",
)


def versions() -> dict[str, str]:
    """Version of Python and of every package that can change a result; "missing" where not installed."""
    # Not looked up by name: another project's distribution is also called vbench.
    found = {"python": platform.python_version(), "vbench": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "missing"
    return found


def namesake() -> str | None:
    """Version and folder of another distribution whose import package and command are vbench; None without.

    The files of both lie in one folder, and each installation overwrites some of the other.
    """
    try:
        found = distribution("vbench")
    except PackageNotFoundError:
        return None
    # A checkout of this project that was installed under the name has its files elsewhere.
    mixed = "vbench/__init__.py," in (found.read_text("RECORD") or "")
    return f"vbench {found.version} in {found.locate_file('')}" if mixed else None


def gpu_versions() -> dict[str, str]:
    """Versions of CUDA, cuDNN and NVIDIA's driver, as far as they are known; on a CPU they change nothing."""
    import torch

    driver = Path("/proc/driver/nvidia/version")
    named = re.search(r"\s(\d+\.\d[\d.]*)\s", driver.read_text()) if driver.is_file() else None
    found = {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nvidia driver": named and named[1],
    }
    return {name: str(value) for name, value in found.items() if value is not None}


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, device, thread count and number of processes of a run; JSON-able."""
    import torch

    from vbench.core.processes import processes

    gpu = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if gpu else platform.machine()
    return {
        "versions": {**versions(), **(gpu_versions() if gpu else {})},
        "device": device.type,
        "device_name": name,
        "threads": torch.get_num_threads(),
        "processes": processes(),
        "platform": platform.system(),
    }


_EVERY_SECONDS = 0.02


@contextmanager
def resident_peak() -> Iterator[list[int]]:
    """Sample this process's resident memory while the block runs; yields a list with its peak in bytes.

    Memory that was released before the block does not count.
    """
    import psutil

    process, over = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not over.wait(_EVERY_SECONDS):
            seen[0] = max(seen[0], process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        seen[0] = max(seen[0], process.memory_info().rss)
