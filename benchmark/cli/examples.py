"""The examples below each command's ``--help``."""

from __future__ import annotations

_SYSU = "--dataset sysu --root DIR"

#: Command -> lines; tests type each of them up to the start of its work.
LINES = {
    "run": (
        "vbench run --victim agw --attack noise --attack metric_ifgsm",
        "vbench run --victim agw --attack 'fsam_uap[preset=strong]' --seed 0 --seed 1 --dry-run",
        f"vbench run --victim agw --weights FILE.t {_SYSU} --attack uap --queries 200",
        "vbench run --config run.yaml",
    ),
    "sweep": ("vbench sweep suite.yaml --jobs 2",),
    "sweep run": ("vbench sweep suite.yaml --jobs 2", "vbench sweep suite.yaml --shard 2/8"),
    "sweep transfer": ("vbench sweep transfer --victim agw --victim ddag --attack metric_ifgsm",),
    "status": ("vbench status", "vbench status suite.yaml"),
    "audit": ("vbench audit --victim agw", f"vbench audit --victim agw --weights FILE.t {_SYSU}"),
    "paper": ("vbench paper", f"vbench paper comparison --victim agw --weights agw=FILE.t {_SYSU}"),
    "baseline": ("vbench baseline --victim agw --attack metric_ifgsm --out gate/baseline.json",),
    "check": ("vbench check gate/baseline.json", "vbench check gate/baseline.json --update"),
    "report": (
        "vbench report",
        "vbench report --wide --versus uap",
        "vbench report --out runs.csv",
        "vbench report --format html",
    ),
    "leaderboard": ("vbench leaderboard submissions/alice submissions/bob --out site",),
    "figure": ("vbench figure cmc --out cmc.pdf --width column",),
    "train": (f"vbench train --victim agw {_SYSU} --full --out agw.safetensors",),
    "list": ("vbench list attacks", "vbench list --format json"),
    "describe": ("vbench describe attack fsam_uap", "vbench describe victim agw"),
    "doctor": ("vbench doctor --root DIR",),
    "cite": ("vbench cite", "vbench cite agw fsam_uap sysu"),
    "data": ("vbench data verify sysu --root DIR", "vbench data protocols"),
    "data verify": ("vbench data verify sysu --root DIR",),
    "data synth": ("vbench data synth --layout sysu --out drawn --ids 20",),
    "data protocols": ("vbench data protocols sysu",),
    "victims": ("vbench victims convert FILE.t --victim agw --out agw.safetensors",),
    "victims convert": ("vbench victims convert FILE.t --victim agw --out agw.safetensors --split sysu",),
}

#: The same as text; \\b keeps the lines as they are.
EXAMPLES = {
    command: "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines) for command, lines in LINES.items()
}
