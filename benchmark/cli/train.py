"""``vbench train``: train a victim on a dataset's training identities."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vbench.cli.output import put


def train(
    dataset: Annotated[str, typer.Option(help="sysu, regdb, llcm, or a reader's name or ./file.py:Class.")],
    root: Annotated[Path, typer.Option(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="Weights file to write; ends in .safetensors.")],
    victim: Annotated[str, typer.Option(help="Victim to train, options as in deen[variant=regdb].")] = "agw",
    protocol: Annotated[
        str | None, typer.Option(help="Protocol id; decides the split.", show_default="the layout's default")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Stretch the recipe.", show_default="the recipe's")
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
        typer.Option(help="Share of training identities left out and measured.", show_default="the recipe's"),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps decoded images.", show_default="none")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with an unfinished run of the same settings.")] = True,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Train a victim; write its weights, a .json that says where they come from and a .csv of losses.

    Only training identities are used, and the last epoch is kept.
    """
    from dataclasses import replace

    from vbench.cli.data import parse_size
    from vbench.errors import BadInput
    from vbench.files import check_writable
    from vbench.prepare import open_named
    from vbench.seeds import torch_generator
    from vbench.train import load_train_images, train_victim
    from vbench.train.trainer import mixed_precision, recipe_of
    from vbench.victim_spec import read_victim
    from vbench.victims.load import build_victim, resolve_device
    from vbench.victims.options import with_classes
    from vbench.victims.pretrained import start_from_imagenet
    from vbench.victims.registry import victims

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
        put("no training identity was left out, so nothing was measured")
    elif "skipped" in found:
        put(f"validation on left-out training identities was not possible: {found['skipped']}")
    else:
        put(
            f"{found['identities']} training identities left out of training: "
            f"Rank-1 {found['rank1']:.1f} %, mAP {found['mAP']:.1f} %"
        )
