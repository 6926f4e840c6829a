"""Try the wheel and the sdist in a folder: is all in them that is tracked, and does the wheel run on its own?

The wheel is installed next to the dependencies of this environment, which stay where they are, and makes a
record in an empty folder: synthetic data, weights and templates must come out of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[2]


def tracked() -> dict[str, bytes]:
    """The files of the packages as a wheel should have them: path in it -> content."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["package_dir"].strip().splitlines()
    folders = {folder: package.replace(".", "/") for package, folder in (line.split(" = ") for line in lines)}
    listed = subprocess.run(
        ["git", "ls-files", *folders], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    paths = {path: "/".join([folders[path.partition("/")[0]], path.partition("/")[2]]) for path in listed}
    return {to: (ROOT / path).read_bytes() for path, to in paths.items()}


def packed(wheel: Path) -> dict[str, bytes]:
    """The files of a wheel, without those about it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def unpacked(sdist: Path) -> set[bytes]:
    """The contents of the files of an sdist."""
    with tarfile.open(sdist) as archive:
        files = [archive.extractfile(member) for member in archive if member.isfile()]
        return {file.read() for file in files if file}


def run(wheel: Path, folder: Path) -> None:
    """Install a wheel into a new environment in a folder, and use it there."""
    python = folder / "env" / "bin" / "python"
    venv.create(folder / "env")
    # As lines, not as site folders: an editable installation in one stays out.
    (site,) = (folder / "env" / "lib").glob("*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(others) + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    subprocess.run([*pip, "--force-reinstall", str(wheel)], check=True)
    where = {"VBENCH_CACHE": str(folder / "cache"), "PATH": f"{python.parent}:{os.environ['PATH']}"}
    for command in (
        ["vbench", "list"],
        ["vbench", "run", "--victim", "agw", "--attack", "noise", "--quiet"],
        ["vbench", "report", "--published"],
        ["vbench", "report", "--format", "html"],
    ):
        done = subprocess.run(command, cwd=folder, env=os.environ | where, capture_output=True, text=True)
        if done.returncode or "Traceback" in done.stderr:
            sys.exit(f"the wheel fails: {' '.join(command)}\n{done.stderr}")
    module = [str(python), "-c", "import vbench; print(vbench.__file__)"]
    found = subprocess.run(module, cwd=folder, check=True, capture_output=True, text=True).stdout
    if not Path(found).is_relative_to(folder):
        sys.exit(f"not the wheel was tried, but {found}")
    if (folder / "cache" / "victims").exists():
        sys.exit("the thin AGW was trained: its weights are not in the wheel")


def main() -> None:
    """Exit with 1 and a line that says what is missing."""
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    expected, found = tracked(), packed(wheel.resolve())
    if found != expected:
        wrong = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
        sys.exit(f"{wheel.name} and the tracked files differ in {', '.join(wrong)}")
    if not unpacked(sdist) >= set(expected.values()):
        sys.exit(f"{sdist.name} lacks tracked files of the packages")
    with tempfile.TemporaryDirectory() as temporary:
        run(wheel.resolve(), Path(temporary).resolve())
    print(f"{wheel.name} and {sdist.name}: {len(expected)} files, and a run without the checkout")


if __name__ == "__main__":
    main()
