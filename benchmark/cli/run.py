"""The commands run and train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vbench.cli.options import Chance, DryRun, Force, Quiet, Runs, Wide, checked_request, takes
from vbench.cli.output import end_with, put
from vbench.records.spec import NOT_KEPT, OPTIONS, SEVERAL, differing

if TYPE_CHECKING:
    from vbench.run.plan import Planned


@takes(*OPTIONS, several=SEVERAL)
def run(
    keep: Annotated[
        str | None,
        typer.Option(
            help="Files to store for figures: embeddings, images, or both as embeddings,images; "
            "weights: those of a victim that the attack trained."
        ),
    ] = None,
    runs: Runs = Path("runs"),
    force: Force = False,
    style: Annotated[
        str, typer.Option("--format", help="Table: plain, markdown, csv, json, latex.")
    ] = "plain",
    chance: Chance = False,
    wide: Wide = False,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    **given: Any,
) -> None:
    """Attack victims on a data set, store a record of each run, print the ranking before and after."""
    # First, before anything that takes time to import.
    request = checked_request(given)
    from vbench.core.progress import busy
    from vbench.records.files import read_keep
    from vbench.reports.table import check_format
    from vbench.reports.tables import report, report_of

    check_format(style)

    with busy("loading PyTorch", quiet):
        from vbench.run.plan import plan
        from vbench.run.session import Session

    session = Session(runs, force, quiet, read_keep(keep) if keep is not None else ())
    specs = request.specs(given["seed"] or [0], **{name: given[name] for name in NOT_KEPT})
    if dry_run:
        session.check(specs)
        put(planned_table(plan(session, specs), style))
        return
    records = session.run_all(specs)
    lost = session.failures.lost
    put(report_of(records, style, chance=chance) if wide else report(records, style, lost, chance=chance))
    if style == "plain":
        put(f"\nrecords in {runs}; all columns: vbench report --runs {runs} --wide")
    end_with(lost)


def planned_table(planned: Sequence[Planned], style: str) -> str:
    """The table of ``--dry-run``: victim, attack and seed of each run, and in what else they differ."""
    from vbench.reports.table import Column, simple, write
    from vbench.run.plan import summary

    differ = differing(one.spec for one in planned)
    names = ["victim", "attack", *(name for name in differ if name not in ("victim", "attack", "seed"))]
    numbers = [Column(name, True) for name in ("seed", "gradients", "forwards", "s")]
    lines = [
        [
            *(one.spec.columns[name] for name in names),
            *(one.spec.seed, one.gradients, one.forwards),
            "" if one.seconds is None else f"{one.seconds:.1f}",
        ]
        for one in planned
    ]
    about = "images sent forward and backward through the model (gradients), and forward only; recorded runs "
    return write(
        [simple(summary(planned), [*names, *numbers], lines, notes=[f"{about}are not repeated"])],
        style,
    )


def train(
    dataset: Annotated[str, typer.Option(help="sysu, regdb, llcm, or a reader's name or ./file.py:Class.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Weights file to write; ends in .safetensors.")],
    victim: Annotated[str, typer.Option(help="Victim to train, options as in deen[variant=regdb].")] = "agw",
    protocol: Annotated[
        str | None,
        typer.Option(help="Protocol id; it sets the split.", show_default="the layout's default"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Number of epochs; stretches the recipe.", show_default="the recipe's")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same weights on the CPU.")] = 0,
    thin: Annotated[
        bool, typer.Option("--thin/--full", help="The small network for CPUs, or the authors'.")
    ] = True,
    size: Annotated[
        str | None, typer.Option(help="Height x width in pixels.", show_default="the victim's")
    ] = None,
    pretrained: Annotated[
        str | None,
        typer.Option(help="ImageNet weights to start a --full network from: a local file, or imagenet."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let --pretrained imagenet fetch torchvision's weights.")
    ] = False,
    precision: Annotated[
        str, typer.Option(help="float32, bfloat16, or auto: bfloat16 on a GPU that has it.")
    ] = "auto",
    validation: Annotated[
        float | None,
        typer.Option(help="Share of training identities held out for testing.", show_default="the recipe's"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Folder to cache decoded images in.", show_default="none")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an unfinished run with the same settings.")] = True,
    quiet: Quiet = False,
) -> None:
    """Train a victim; write its weights, a .json about their origin and a .csv of losses.

    Only training identities are used. The weights are those of the last epoch.
    """
    from dataclasses import replace

    from vbench.core.errors import BadInput
    from vbench.core.files import check_writable
    from vbench.core.seeds import torch_generator
    from vbench.core.settings import parse_size
    from vbench.run.prepare import open_named
    from vbench.victims.base import with_classes
    from vbench.victims.build import read_victim
    from vbench.victims.load import build_victim, resolve_device
    from vbench.victims.pretrained import start_from_imagenet
    from vbench.victims.registry import victims
    from vbench.victims.training.batches import load_train_images
    from vbench.victims.training.trainer import mixed_precision, recipe_of, train_victim

    if out.suffix != ".safetensors":
        raise BadInput(f"--out {out}: weights are written as .safetensors; name the file so")
    mixed_precision(precision, resolve_device(device))
    generator = torch_generator(seed)
    spec = read_victim(victim)
    victim_class = victims.load(spec.name)
    options = {**(getattr(victim_class, "THIN", {}) if thin else {}), **spec.options}
    if size is not None:
        options["input_size"] = parse_size(size)
    opened = open_named(dataset, root, protocol)
    check_writable(out.parent)
    built = build_victim(
        victim_class,
        device="cpu",
        generator=generator,
        **with_classes(victim_class, options, len(opened.train_labels)),
    )
    recipe = recipe_of(built, epochs)
    if validation is not None:
        recipe = replace(recipe, validation=validation)
    if pretrained is not None:
        start_from_imagenet(built, None if pretrained == "imagenet" else Path(pretrained), download)
    images = load_train_images(opened, built.input_size, built.resize_filter, cache_dir=cache, quiet=quiet)
    result = train_victim(
        built,
        opened,
        images,
        seed,
        out=out,
        resume=resume,
        quiet=quiet,
        device=device,
        recipe=recipe,
        precision=precision,
    )
    put(f"weights: {result.path}")
    found = result.metadata["validation"]
    if found is None:
        put("no training identity was held out, so nothing was measured")
    elif "skipped" in found:
        put(f"validation on held-out training identities was not possible: {found['skipped']}")
    else:
        put(
            f"{found['identities']} held-out training identities: "
            f"Rank-1 {found['rank1']:.1f} %, mAP {found['mAP']:.1f} %"
        )
