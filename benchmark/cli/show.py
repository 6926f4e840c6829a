"""``vbench list``, ``describe`` and ``doctor``: what is there, without doing anything."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from tabulate import tabulate

from vbench.attacks.registry import attacks
from vbench.cli.output import put
from vbench.data.registry import datasets
from vbench.registry import Entry, Registry
from vbench.victims.registry import victims

_RIGHT = ("left", "left", "left", "right", "right", "right", "left")


class Kind(str, Enum):
    """What can be listed."""

    ATTACKS = "attacks"
    VICTIMS = "victims"
    DATASETS = "datasets"
    FIGURES = "figures"


def _registry(kind: str) -> Registry:
    return attacks if kind.startswith("attack") else victims


def _marked(entry: Entry) -> Entry:
    return replace(entry, summary=f"CANNOT BE USED: {entry.problem}") if entry.problem else entry


def list_entries(
    kind: Annotated[
        Kind | None, typer.Argument(help="attacks, victims, datasets or figures; all if left out.")
    ] = None,
) -> None:
    """List the attacks, victims and data sets that are known, built-in or installed, and the figures."""
    tables = {
        Kind.ATTACKS: _attacks,
        Kind.VICTIMS: _victims,
        Kind.DATASETS: _datasets,
        Kind.FIGURES: _figures,
    }
    for one in [kind] if kind else list(Kind):
        put(f"{one.value}:")
        put(tables[one]())
        put("")


def _attacks() -> str:
    rows = [*map(_marked, _registry("attacks").listed()), *_registry("attacks").libraries()]
    columns = ("knowledge", "cost")
    lines = [
        [e.name, e.traits, *(e.facts.get(column, "") for column in columns), e.summary, e.paper, e.origin]
        for e in rows
    ]
    headings = ["name", "kind", "knowledge", "default cost", "summary", "paper", "from"]
    return tabulate(lines, headings, maxcolwidths=[None, None, 11, 15, 38, 38, None])


def _victims() -> str:
    columns = ("year", "parameters", "input", "embedding")
    lines = [
        [e.name, e.paper or e.summary, *(e.facts.get(column, "") for column in columns), e.origin]
        for e in map(_marked, _registry("victims").listed())
    ]
    headings = ["name", "paper", *columns, "from"]
    return tabulate(lines, headings, maxcolwidths=[None, 52], disable_numparse=True, colalign=_RIGHT)


def _datasets() -> str:
    from vbench.data.protocols import LAYOUTS, default_protocol

    lines = [["synthetic", "drawn people in any of the layouts below", default_protocol("sysu"), "vbench"]]
    lines += [[name, "the folder its owner ships", default_protocol(name), "vbench"] for name in LAYOUTS]
    lines += [[e.name, e.summary, "", e.origin] for e in map(_marked, datasets.listed())]
    return tabulate(lines, ["name", "what", "default protocol", "from"])


def _figures() -> str:
    from vbench.reports.figures.catalogue import FIGURES

    needs = {
        "records": "records",
        "embeddings": "one run with --keep embeddings",
        "images": "one run with --keep images",
        "perturbation": "one run: what it learnt, or --keep images",
    }
    lines = [[entry.name, entry.summary, needs[entry.needs]] for entry in FIGURES.values()]
    return tabulate(lines, ["name", "summary", "needs"])


def describe(
    kind: Annotated[str, typer.Argument(help="attack or victim.")],
    name: Annotated[str, typer.Argument(help="Name as vbench list shows it, or a path to a class.")],
) -> None:
    """Show one attack's parameters or one victim's options."""
    import inspect

    from vbench.errors import unknown_name
    from vbench.parameters import parameters

    if kind not in ("attack", "victim"):
        raise unknown_name("kind", kind, ("attack", "victim"))
    registry = _registry(kind)
    cls, entry = registry.load(name), registry.describe(name)
    put(f"{entry.name}: {entry.summary}")
    if entry.paper:
        put(f"paper: {entry.paper}")
    put("\n" + inspect.getdoc(cls) + "\n")
    if kind == "attack":
        lines = [[row.name, row.default, row.meaning] for row in parameters(cls)]
        if lines:
            put(tabulate(lines, ["parameter", "default", "meaning"], disable_numparse=True))
        _describe_presets(cls)
        _describe_members(cls)
        return
    _describe_victim(cls)


def _describe_presets(cls: type) -> None:
    from vbench.attack_spec import presets

    found = presets(cls)
    if found:
        threats = getattr(cls, "PRESET_THREATS", {})
        lines = [
            [
                name,
                *(
                    ", ".join(f"{k}={v}" for k, v in part.items())
                    for part in (settings, threats.get(name, {}))
                ),
            ]
            for name, settings in found.items()
        ]
        headings = ["preset", "settings", "unless asked otherwise"]
        put("\n" + tabulate(lines, headings, disable_numparse=True))


def _describe_members(cls: type) -> None:
    from vbench.attack_spec import label
    from vbench.attacks import Battery

    if issubclass(cls, Battery):
        lines = [[label(member), member.summary] for member in cls().members()]
        put(tabulate(lines, ["member", "summary"]))


def _describe_victim(cls: type) -> None:
    from vbench.reports.published import clean_results
    from vbench.victims.options import default_options, option_names

    defaults = default_options(cls)
    thin = getattr(cls, "THIN", {})
    lines = [[name, defaults.get(name, "(required)"), thin.get(name, "")] for name in option_names(cls)]
    put(tabulate(lines, ["option", "default", "thin variant"], disable_numparse=True))
    found = clean_results(cls.name)
    if found:
        put("\npublished clean results, percent (as printed; not measured here):")
        headings = ["protocol", "Rank-1", "mAP", "mINP", "source", "note"]
        widths = [None, None, None, None, 42, 34]
        put(tabulate(found, headings, disable_numparse=True, maxcolwidths=widths))


def doctor(
    root: Annotated[list[Path] | None, typer.Option(help="Data folder to look at; repeatable.")] = None,
) -> None:
    """Show versions, devices, caches and data folders, and whether anything is in the way."""
    import torch

    from vbench.environment import versions
    from vbench.folders import cache_folder, runs_folder
    from vbench.progress import say

    lines = [*versions().items()]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    lines.append(("device", ", ".join(gpus) or f"CPU, {torch.get_num_threads()} threads"))
    for what, folder in (("cache", cache_folder()), ("runs", runs_folder().absolute())):
        lines.append((what, f"{folder} ({_folder_state(folder)})"))
    for folder in root or []:
        lines.append(("data", f"{folder} ({_data_state(folder)})"))
    put(tabulate(lines, tablefmt="plain"))
    missing = [name for name, version in versions().items() if version == "missing"]
    if missing:
        say(f"missing packages: {', '.join(missing)}; pip install {' '.join(missing)}")
        raise typer.Exit(1)


def _folder_state(folder: Path) -> str:
    import os

    if not folder.exists():
        return "not there yet"
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    writable = "writable" if os.access(folder, os.W_OK) else "NOT WRITABLE"
    return f"{size / 1e6:.0f} MB, {writable}"


def _data_state(folder: Path) -> str:
    if not folder.is_dir():
        return "no such folder"
    signs = {"sysu": "exp/test_id.txt", "regdb": "idx/test_visible_1.txt", "llcm": "idx/test_id.txt"}
    found = [layout for layout, sign in signs.items() if (folder / sign).is_file()]
    kind = "synthetic " if (folder / "vbench-synthetic.json").is_file() else ""
    return f"{kind}{found[0]} layout" if found else "no known layout"
