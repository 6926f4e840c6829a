"""The commands list, describe, doctor, data and victims."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vbench.attacks.registry import attacks
from vbench.cli.examples import EXAMPLES
from vbench.cli.options import Quiet, Style, Wide, check_style
from vbench.cli.output import put
from vbench.core.registry import Entry, Registry
from vbench.core.settings import parameters, parse_size
from vbench.data.registry import DATASETS, datasets
from vbench.reports.table import Column, Table, simple, write
from vbench.victims.registry import victims

if TYPE_CHECKING:
    from vbench.data.verify import Report
    from vbench.victims.base import Victim


class Kind(str, Enum):
    """The kinds of ``vbench list``."""

    ATTACKS = "attacks"
    VICTIMS = "victims"
    DATASETS = "datasets"
    FIGURES = "figures"


def _registry(kind: str) -> Registry:
    return attacks if kind.startswith("attack") else victims


def _put_json(found: Mapping[str, object]) -> None:
    import json

    from vbench.core.text import json_text

    put(json_text(json.dumps(found, indent=1)))


def _marked(entry: Entry) -> Entry:
    return replace(entry, summary=f"CANNOT BE USED: {entry.problem}") if entry.problem else entry


def list_entries(
    kind: Annotated[
        Kind | None, typer.Argument(help="attacks, victims, datasets or figures; all if left out.")
    ] = None,
    style: Style = "plain",
    wide: Wide = False,
) -> None:
    """List attacks, victims and data sets, built-in or installed, and figures."""
    check_style(style)
    made = {
        Kind.ATTACKS: _attacks,
        Kind.VICTIMS: _victims,
        Kind.DATASETS: _datasets,
        Kind.FIGURES: _figures,
    }
    every = wide or style == "json"
    tables = {one.value: made[one](every) for one in ([kind] if kind else list(Kind))}
    if style == "json":
        _put_json({name: table.flat() for name, table in tables.items()})
        return
    for name, table in tables.items():
        put(f"{name}:\n{write([table], style, wide)}\n")


def _attacks(every: bool) -> Table:
    rows = [*map(_marked, _registry("attacks").listed()), *_registry("attacks").libraries()]
    more = ["norms", "paper", "from"] if every else []
    heads = ["name", "kind", "knowledge", "default cost", "summary", *more]
    lines = [
        [
            e.name,
            e.traits,
            e.facts.get("knowledge", ""),
            e.facts.get("cost", ""),
            e.summary,
            e.facts.get("norms", ""),
            e.paper,
            e.origin,
        ]
        for e in rows
    ]
    return simple("", heads, [line[: len(heads)] for line in lines])


def _victims(every: bool) -> Table:
    columns = ("year", "parameters", "input", "embedding")
    heads = [Column(one, one in columns[1:]) for one in ("name", "paper", *columns, "from")]
    lines = [
        [e.name, e.paper or e.summary, *(e.facts.get(column, "") for column in columns), e.origin]
        for e in map(_marked, _registry("victims").listed())
    ]
    return simple("", heads, lines)


def _datasets(every: bool) -> Table:
    from vbench.data.protocols import default_protocol

    what = "synthetic persons, in the layout of sysu, regdb or llcm"
    lines = [["synthetic", what, default_protocol("sysu"), "vbench"]]
    lines += [
        [e.name, e.summary, DATASETS[e.name]["protocols"][0] if e.name in DATASETS else "", e.origin]
        for e in map(_marked, datasets.listed())
    ]
    return simple("", ["name", "what", "default protocol", "from"], lines)


def _figures(every: bool) -> Table:
    from vbench.reports.figures import FIGURES

    needs = {
        "records": "records",
        "embeddings": "one run with --keep embeddings",
        "images": "one run with --keep images",
        "perturbation": "one run: what it learnt, or --keep images",
    }
    lines = [[entry.name, entry.summary, needs[entry.needs]] for entry in FIGURES.values()]
    return simple("", ["name", "summary", "needs"], lines)


def describe(
    kind: Annotated[str, typer.Argument(help="attack or victim.")],
    name: Annotated[str, typer.Argument(help="Name as vbench list shows it, or a path to a class.")],
    style: Style = "plain",
) -> None:
    """Show one attack's version and parameters, or one victim's version and options."""
    import inspect

    from vbench.core.errors import unknown_name
    from vbench.core.source import code_card

    check_style(style)
    if kind not in ("attack", "victim"):
        raise unknown_name("kind", kind, ("attack", "victim"))
    registry = _registry(kind)
    cls, entry = registry.load(name), registry.describe(name)
    about = re.sub(r":\w+:`~?([^`]+)`", r"\1", inspect.getdoc(cls) or "")  # references of Sphinx
    tables = _of_attack(cls) if kind == "attack" else _of_victim(cls)
    norms = {"norms": ", ".join(sorted(cls.norms))} if kind == "attack" else {}
    facts = {"paper": entry.paper, **code_card(cls), **norms}
    if style == "json":
        said = {"name": entry.name, "summary": entry.summary, **facts, "about": about}
        _put_json({**said, **{table.anchor: table.flat() for table in tables}})
        return
    put(f"{entry.name}: {entry.summary}")
    for what, value in facts.items():
        if value:
            put(f"{what}: {value}")
    put(f"\n{about}\n")
    put(write(tables, style))


def _of_attack(cls: type) -> list[Table]:
    from vbench.attacks import Battery
    from vbench.attacks.build import RESERVED, label

    lines = [[row.name, row.default, row.meaning] for row in parameters(cls)]
    found = [simple("", ["parameter", "default", "meaning"], lines, "parameters")]
    for word, attribute in RESERVED.items():
        threats = getattr(cls, "PRESET_THREATS", {}) if word == "preset" else {}
        named = [
            [
                name,
                _settings(given) or "(the defaults)",
                *([_settings(threats.get(name, {}))] if threats else []),
            ]
            for name, given in getattr(cls, attribute, {}).items()
        ]
        heads = [word, "settings", *(["unless asked otherwise"] if threats else [])]
        found.append(simple("", heads, named, f"{word}s"))
    if issubclass(cls, Battery):
        members = [[label(member), member.summary] for member in cls().attacks()]
        found.append(simple("", ["member", "summary"], members, "members"))
    return [table for table in found if table.groups]


def _settings(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in given.items())


def _of_victim(cls: type[Victim]) -> list[Table]:
    from vbench.reports.published import clean_results
    from vbench.victims.base import default_options, option_names

    defaults = default_options(cls)
    thin = getattr(cls, "THIN", {})
    lines = [[name, defaults.get(name, "(required)"), thin.get(name, "")] for name in option_names(cls)]
    printed = "published clean results, percent (as printed; not measured here):"
    headings = ["protocol", "Rank-1", "mAP", "mINP", "source", "note"]
    found = [
        simple("", ["option", "default", "thin variant"], lines, "options"),
        simple(printed, headings, clean_results(cls.name), "published"),
    ]
    return [table for table in found if table.groups]


def doctor(
    root: Annotated[list[Path] | None, typer.Option(help="Data folder to look at; repeatable.")] = None,
    style: Style = "plain",
) -> None:
    """Show versions, devices, caches and data folders; exit with 1 if packages are missing."""
    import torch

    from vbench.core.environment import gpu_versions, versions
    from vbench.core.files import cache_folder, runs_folder
    from vbench.core.progress import say

    check_style(style)
    lines = [*versions().items()]
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    lines += list(gpu_versions().items()) if gpus else []
    lines.append(("device", ", ".join(gpus) or f"CPU, {torch.get_num_threads()} threads"))
    for what, folder in (("cache", cache_folder()), ("runs", runs_folder().absolute())):
        lines.append((what, f"{folder} ({_folder_state(folder)})"))
    data = [("data", f"{folder} ({_data_state(folder)})") for folder in root or []]
    if style == "json":
        _put_json({**dict(lines), "data": [found for _, found in data]})
    else:
        put(write([simple("", ["", ""], [*lines, *data])], style))
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


data_app = typer.Typer(no_args_is_help=True, help="Check data sets, write synthetic ones, list protocols.")


@data_app.command(epilog=EXAMPLES["data verify"])
def verify(
    layout: Annotated[str, typer.Argument(help="sysu, regdb or llcm.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set, as its owner ships it.")],
    quiet: Quiet = False,
) -> None:
    """Count and decode every image; exit with 1 if anything is missing, unreadable or not as published."""
    from vbench.data.verify import verify as check

    report = check(layout, root, quiet=quiet)
    for line in _lines(report):
        put(line)
    if not report.ok:
        raise typer.Exit(1)


@data_app.command(epilog=EXAMPLES["data synth"])
def synth(
    layout: Annotated[str, typer.Option(help="sysu, regdb or llcm.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must be new, empty, or hold the same set.")],
    ids: Annotated[int, typer.Option(help="Training identities.")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    size: Annotated[str, typer.Option(help="Height x width in pixels, as in 64x32.")] = "64x32",
    test_ids: Annotated[int | None, typer.Option(help="Test identities.", show_default="chosen")] = None,
    train_shots: Annotated[
        int | None, typer.Option(help="Images of each training identity and camera.", show_default="chosen")
    ] = None,
    test_shots: Annotated[
        int | None, typer.Option(help="Images of each test identity and camera.", show_default="chosen")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write a synthetic data set in the folder layout of a real one."""
    from vbench.data.protocols import check_layout
    from vbench.data.synthetic.write import Shots, write_dataset

    check_layout(layout)
    shots = Shots(train_shots, test_shots)
    folder = write_dataset(layout, out, ids, seed, parse_size(size), test_ids, quiet, shots)
    put(f"synthetic {layout} data in {folder}")


@data_app.command(epilog=EXAMPLES["data protocols"])
def protocols(
    layout: Annotated[
        str | None, typer.Argument(help="sysu, regdb or llcm; all of them if left out.")
    ] = None,
) -> None:
    """List protocol ids; * marks a layout's default, ! a protocol that only this project defines."""
    from vbench.data.protocols import LAYOUTS, all_protocols, default_protocol, parse_protocol

    defaults = {default_protocol(name) for name in LAYOUTS}
    for text in all_protocols(layout):
        mark = " *" if text in defaults else "" if parse_protocol(text).standard else " !"
        put(f"{text}{mark}")


def _lines(report: Report) -> list[str]:
    compared = any(count.known is not None for count in report.counts)
    kind = "compared with published counts" if compared else "not compared with published counts"
    kind = f"synthetic, {kind}" if report.synthetic else kind
    lines = [f"{report.name} in {report.root} ({kind})"]
    for count in report.counts:
        known = (
            "" if count.known is None else "  as published" if count.agrees else f"  published: {count.known}"
        )
        lines.append(f"  {count.name}: {count.found}{known}")
    by_split: dict[str, list[str]] = {}
    for (split, where), number in report.cameras.items():
        by_split.setdefault(split, []).append(f"{where} {number}")
    lines += [f"  {split}: {', '.join(parts)}" for split, parts in by_split.items()]
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"PROBLEM: {problem}" for problem in report.problems]
    lines.append("no problem found" if report.ok else f"{len(report.problems)} problems")
    return lines


victims_app = typer.Typer(help="Weights of victims.", no_args_is_help=True, rich_markup_mode=None)


@victims_app.callback()
def _group() -> None:
    """Weights of victims."""


@victims_app.command("convert", epilog=EXAMPLES["victims convert"])
def convert(
    file: Annotated[Path, typer.Argument(help="Checkpoint as its authors released it.")],
    victim: Annotated[str, typer.Option(help="Victim of the checkpoint; options as in deen[variant=regdb].")],
    out: Annotated[Path, typer.Option(help="File to write; ends in .safetensors.")],
    split: Annotated[
        str | None,
        typer.Option(help="Training split, as in regdb/trial-3.", show_default="as in the file"),
    ] = None,
    force: Annotated[bool, typer.Option(help="Overwrite --out.")] = False,
) -> None:
    """Convert a released checkpoint to a .safetensors file, which cannot contain code.

    The new file also has the victim's name and options, the training split, and the SHA-256 of the original.
    """
    from vbench.core.errors import BadInput
    from vbench.victims.build import read_victim
    from vbench.victims.load import convert_checkpoint

    if out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: weights are written as .safetensors; name the file so")
    if out.exists() and not force:
        raise BadInput(f"--out {out} exists; --force overwrites it")
    if split is not None:
        _check_split(split)
    spec = read_victim(victim)
    metadata = convert_checkpoint(file, spec.name, out, split, spec.options)
    put(f"{out}: {metadata['victim']}, split {metadata['split'] or 'unknown'}")
    put(f"SHA-256 of the tensors: {metadata['sha256']}")
    put(f"SHA-256 of {file.name}: {metadata['released']['sha256']}")


def _check_split(split: str) -> None:
    from vbench.core.errors import unknown_name

    known = ["sysu", "llcm", *(f"regdb/trial-{number}" for number in range(1, 11))]
    if split not in known:
        raise unknown_name("split", split, known)
