"""Where vbench keeps what it can make again (cache) and what it found out (runs)."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

CACHE_VARIABLE = "VBENCH_CACHE"


def cache_folder() -> Path:
    """The cache: ``VBENCH_CACHE`` if set, else the user's cache folder. Safe to delete."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("vbench"))


def runs_folder() -> Path:
    """Default folder of run records: ``runs`` in the working directory."""
    return Path("runs")
