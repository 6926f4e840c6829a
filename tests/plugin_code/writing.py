"""Plugins as their authors write them: files of attacks, victims and helpers in a folder."""

from __future__ import annotations

import textwrap
from pathlib import Path

ATTACK = '''
from dataclasses import dataclass
from vbench.attacks import PerImageAttack
from vbench.core.settings import param
{imports}

@dataclass(frozen=True)
class Mine(PerImageAttack):
    """Moves the image."""
    name = "mine"
    summary = "moves the image"
    amount: float = param(0.1, "how far")

    def craft(self, victim, images, modality, context):
        {craft}
'''


def attack(
    folder: Path, craft: str = "return images + self.amount", imports: str = "", name: str = "mine"
) -> str:
    """Write the attack ``Mine`` to a file; returns what names it on the command line."""
    return write(folder, f"{name}.py", ATTACK.format(imports=imports, craft=craft))


def write(folder: Path, name: str, text: str, cls: str = "Mine") -> str:
    """Write a file of Python; returns what names its class."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(textwrap.dedent(text))
    return f"{folder / name}:{cls}"


def installed(
    site: Path, group: str, points: dict[str, str], files: dict[str, str], name: str = "their-plugin"
) -> None:
    """Lay a distribution out in ``site`` as an installer would; ``points``: entry point -> target."""
    lines = "".join(f"{point} = {target}\n" for point, target in points.items())
    info = site / f"{name.replace('-', '_')}-1.0.dist-info"
    write(info, "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    write(info, "entry_points.txt", f"[vbench.{group}]\n{lines}")
    tops = sorted({file.partition("/")[0].removesuffix(".py") for file in files})
    write(info, "top_level.txt", "\n".join(tops) + "\n")
    write(info, "RECORD", "".join(f"{file},,\n" for file in files))
    for file, text in files.items():
        write((site / file).parent, (site / file).name, text)
