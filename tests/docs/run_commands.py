"""``make test-docs``: the commands of the pages, for real, on the embedded data.

Each page has a new folder, in which its commands are typed one after the other, with the files that pages
show; drawn data and thin victims are shared. Blocks that say why they are not run, and workflows, are left
out. Pages may be named: ``python tests/docs/run_commands.py docs/reports.md``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pages import PAGES, ROOT, SHELL, Block, blocks


def main(pages: list[Path]) -> int:
    """Run the commands of pages; returns how many failed."""
    with tempfile.TemporaryDirectory(prefix="vbench-docs-") as scratch:
        cache = os.environ.get("VBENCH_CACHE", f"{scratch}/cache")
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, "VBENCH_CACHE": cache, "PATH": path}
        return sum(_page(page, Path(scratch) / page.stem, environment) for page in pages)


def _page(page: Path, folder: Path, environment: dict[str, str]) -> int:
    shown = [block for block in blocks(page) if block.language in SHELL and not block.reason]
    folder.mkdir()
    for block in (block for one in PAGES for block in blocks(one) if block.file):
        (folder / block.file).write_text(block.text, encoding="utf-8")
    return sum(_line(block, line, folder, environment) for block in shown for line in block.lines())


def _line(block: Block, line: str, folder: Path, environment: dict[str, str]) -> bool:
    if not line.strip() or line.lstrip().startswith("#"):
        return False
    started = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    print(f"{time.monotonic() - started:7.1f} s  {block.where} {line}", flush=True)
    if done.returncode:
        print(f"exit code {done.returncode}\n{done.stdout}{done.stderr}", flush=True)
    return bool(done.returncode)


if __name__ == "__main__":
    failed = main([(ROOT / name).resolve() for name in sys.argv[1:]] or PAGES)
    sys.exit(f"{failed} commands failed" if failed else 0)
