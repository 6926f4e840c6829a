"""Types of all of vbench, by mypy. Run by ``make lint``.

The package lies in four folders, which setup.cfg joins; mypy reads one, so links stand in for it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from floors import FOLDERS, ROOT
from mypy import api


def main() -> int:
    """Print what mypy says, in terms of the files as they lie here; its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "vbench"
        package.mkdir()
        for entry in (ROOT / FOLDERS["vbench"]).iterdir():
            (package / entry.name).symlink_to(entry)
        for name, place in FOLDERS.items():
            if name != "vbench":
                (package / place).symlink_to(ROOT / place)
        config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / "build" / "mypy")]
        said, wrong, code = api.run([*config, str(package)])
    for line in (said + wrong).splitlines():
        path = line.partition("vbench/")[2] if line.startswith(str(package)) or "/vbench/" in line else line
        own = path.split("/")[0] in FOLDERS.values()
        print(path if own or path == line else f"{FOLDERS['vbench']}/{path}")
    return code


if __name__ == "__main__":
    sys.exit(main())
