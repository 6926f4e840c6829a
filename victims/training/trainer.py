"""The training loop."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vbench.core import __version__
from vbench.core.arithmetic import default_arithmetic, has_bfloat16
from vbench.core.errors import BadInput, VbenchError, unknown_name
from vbench.core.files import check_writable, remove_leftovers, write_atomically
from vbench.core.processes import memory_errors
from vbench.core.progress import say, track
from vbench.core.seeds import check_seed, entropy
from vbench.core.types import Modality
from vbench.data.base import Dataset
from vbench.metrics import rank_embeddings
from vbench.victims.base import Victim
from vbench.victims.checkpoint import check_storable, sha256_of, write_checkpoint
from vbench.victims.embed import embed
from vbench.victims.load import check_victim, resolve_device
from vbench.victims.make import avoid_narrow_kernel
from vbench.victims.training.batches import PairedSampler, TrainImages, augment
from vbench.victims.training.recipe import Recipe, Trainable, TrainBatch, check_share


def make_optimizer(victim: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Two parameter groups, head and trunk, each with its share of the peak rate as ``scale``."""
    head: list[nn.Parameter] = []
    trunk: list[nn.Parameter] = []
    for name, parameter in victim.named_parameters():
        if parameter.requires_grad:
            (head if name.startswith(recipe.head) else trunk).append(parameter)
    groups = [{"params": trunk, "scale": recipe.trunk_rate}, {"params": head, "scale": 1.0}]
    groups = [group for group in groups if group["params"]]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, weight_decay=decay, momentum=recipe.momentum, nesterov=True)
    if recipe.optimizer == "adam":
        return torch.optim.Adam(groups, lr=rate, weight_decay=decay)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    raise BadInput(f"recipe: unknown optimizer '{recipe.optimizer}'; known: adam, adamw, sgd")


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, epoch: int, fraction: float) -> float:
    """Set the learning rate and return it; see :func:`rate_at`."""
    rate = rate_at(recipe, epoch, fraction)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["scale"]
    return rate


def rate_at(recipe: Recipe, epoch: int, fraction: float) -> float:
    """Learning rate of the head in ``epoch`` (from 0), after the share ``fraction`` (in [0, 1)) of it."""
    if recipe.schedule == "step":
        warm = min(1.0, (epoch + 1) / recipe.warmup_epochs) if recipe.warmup_epochs else 1.0
        return recipe.learning_rate * warm * 0.1 ** sum(epoch >= stone for stone in recipe.milestones)
    if recipe.schedule == "cosine":
        return recipe.learning_rate * _cosine(epoch + fraction, recipe.warmup_epochs, recipe.epochs)
    raise BadInput(f"recipe: unknown schedule '{recipe.schedule}'; known: cosine, step")


def _cosine(now: float, warmup: float, end: float) -> float:
    if now < warmup:
        return max(now / warmup, 0.01)
    return 0.5 * (1 + math.cos(math.pi * (now - warmup) / (end - warmup)))


def held_out_labels(images: TrainImages, share: float, seed: int) -> tuple[int, ...]:
    """Choose the held-out labels: ``share`` of those with images in both modalities, at least two.

    Empty for a share of 0. The choice depends on the labels and the seed alone.
    """
    check_share(share)
    if share == 0:
        return ()
    labels = np.intersect1d(images.visible_labels, images.infrared_labels)
    count = max(2, round(share * len(labels)))
    generator = np.random.default_rng([entropy(seed), len(labels)])
    chosen = generator.choice(labels, min(count, len(labels)), replace=False)
    return tuple(sorted(int(label) for label in chosen))


def validate(victim: Victim, dataset: Dataset, images: TrainImages, held_out: tuple[int, ...]) -> dict:
    """Rank all held-out images across modalities in the dataset's direction, by its ranking rule.

    Returns percentages ``rank1``, ``rank10``, ``mAP``, ``mINP`` and the counts behind them, or ``skipped``
    with the reason if nothing can be ranked. Uses training images only.
    """
    sides = {
        Modality.VISIBLE: (images.visible, images.visible_labels, dataset.train_visible),
        Modality.INFRARED: (images.infrared, images.infrared_labels, dataset.train_infrared),
    }
    ranked = {}
    for modality, (pixels, labels, samples) in sides.items():
        rows = np.flatnonzero(np.isin(labels, held_out))
        cams = np.array([sample.cam for sample in samples])[rows]
        ranked[modality] = (embed(victim, pixels[rows], modality).embeddings, labels[rows], cams)
    query, query_ids, query_cams = ranked[dataset.query_modality]
    gallery, gallery_ids, gallery_cams = ranked[dataset.gallery_modality]
    # Camera 0 means unknown (the training lists of LLCM): two unknown cameras are not the same camera.
    query_cams = np.where(query_cams == 0, -1, query_cams)
    try:
        found = rank_embeddings(
            query,
            gallery,
            query_ids,
            gallery_ids,
            query_cams,
            gallery_cams,
            similarity=victim.similarity,
            protocol=dataset.metric,
        )
    except BadInput as error:
        return {"skipped": str(error)}
    return {
        "identities": len(held_out),
        "query": len(query_ids),
        "gallery": len(gallery_ids),
        "rank1": round(100 * found.rank(1), 2),
        "rank10": round(100 * found.rank(10), 2),
        "mAP": round(100 * found.mAP, 2),
        "mINP": round(100 * found.mINP, 2),
    }


@dataclass(frozen=True)
class TrainResult:
    """``metadata`` of the weights file; ``history``: the mean losses of each epoch."""

    path: Path | None
    metadata: dict[str, Any]
    history: list[dict[str, float]]


@default_arithmetic()
def train_victim(
    victim: Victim,
    dataset: Dataset,
    images: TrainImages,
    seed: int,
    epochs: int | None = None,
    out: Path | None = None,
    resume: bool = True,
    quiet: bool = False,
    device: str | torch.device = "auto",
    recipe: Recipe | None = None,
    precision: str = "auto",
) -> TrainResult:
    """Train ``victim`` in place by its own recipe, or by ``recipe``; it ends in evaluation mode.

    The weights of the last epoch are kept: there is no selection, and test identities are never used.
    ``epochs`` stretches or shortens the recipe's schedule. With ``out`` the weights, a ``.json`` with their
    metadata and a ``.csv`` of losses are written, and a state file after every epoch, from which the same
    call resumes (``resume``) with the same final bits. On the CPU the bits depend only on the seed and the
    number of threads. ``precision``: see :func:`mixed_precision`.

    Raises BadInput if the victim cannot be trained or does not fit the data, VbenchError if a loss is not
    finite.
    """
    seed = check_seed(seed)
    recipe = recipe_of(victim, epochs, recipe)
    check_victim(victim)
    check_storable(victim.state_dict(), f"victim '{victim.name}'")
    _check_fit(victim, dataset, images)
    out = None if out is None else Path(out)
    if out is not None and out.suffix != ".safetensors":
        raise BadInput(f"{out}: weights are written as .safetensors; name the file so")
    if out is not None:
        check_writable(out.parent)
        remove_leftovers(out.parent)
    victim.to(resolve_device(device))
    avoid_narrow_kernel(victim)
    held_out = held_out_labels(images, recipe.validation, seed)
    sampler = PairedSampler(
        images.visible_labels, images.infrared_labels, recipe.identities, recipe.instances, held_out
    )
    optimizer = make_optimizer(victim, recipe)
    autocast = mixed_precision(precision, next(victim.parameters()).device)
    fingerprint = fingerprint_of(_facts(victim, dataset, images, recipe, seed, autocast))
    history: list[dict[str, float]] = []
    state = load_state(out, fingerprint) if out is not None and resume else None
    if out is not None and state is not None:
        state.restore(out, victim, optimizer)
        history = state.history
        say(f"training goes on after epoch {state.epochs_done}", quiet)
    start = state.epochs_done if state else 0
    victim.train()
    steps = _steps(sampler, start, recipe.epochs, seed)
    total = (recipe.epochs - start) * sampler.batches
    losses: list[dict[str, Tensor]] = []
    for step in track(steps, f"training {victim.name}", total, quiet):
        rate = set_rate(optimizer, recipe, step.epoch, step.number / sampler.batches)
        previous = history[-1] if history else {}
        losses.append(_update(victim, optimizer, images, step, recipe, previous, autocast))
        if step.number + 1 == sampler.batches:
            history.append({"epoch": step.epoch + 1, "rate": rate, **_means(losses, victim, step.epoch)})
            losses = []
            if out is not None:
                save_state(out, fingerprint, step.epoch + 1, victim, optimizer, history)
                write_atomically(out.with_suffix(".csv"), _as_csv(history))
    victim.eval()
    validation = validate(victim, dataset, images, held_out) if held_out else None
    metadata = _metadata(victim, dataset, recipe, seed, held_out, validation)
    metadata["precision"] = str(autocast or torch.float32)
    if out is not None:
        write_checkpoint(out, victim.state_dict(), metadata)
        drop_state(out)
    return TrainResult(out, metadata, history)


def mixed_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The autocast dtype for "auto", "float32" or "bfloat16" on a device; None: no autocast.

    "auto" is bfloat16 on a GPU that supports it: it has the range of float32, so losses need no scaling.
    """
    if precision not in ("auto", "bfloat16", "float32"):
        raise unknown_name("precision", precision, ("auto", "bfloat16", "float32"))
    half = precision == "bfloat16" or (precision == "auto" and has_bfloat16(device))
    return torch.bfloat16 if half else None


def recipe_of(victim: Victim, epochs: int | None = None, recipe: Recipe | None = None) -> Recipe:
    """The recipe for a training run: ``recipe`` or the victim's own, over ``epochs`` if given.

    Raises BadInput for a victim that cannot be trained.
    """
    if not isinstance(victim, Trainable):
        raise BadInput(f"victim '{victim.name}' declares no training recipe; load released weights instead")
    chosen = recipe or victim.recipe()
    return chosen if epochs is None else chosen.stretched(epochs)


@dataclass(frozen=True)
class _Step:
    epoch: int
    number: int
    visible: np.ndarray
    infrared: np.ndarray
    labels: np.ndarray
    generator: torch.Generator


def _steps(sampler: PairedSampler, start: int, epochs: int, seed: int) -> Iterator[_Step]:
    for epoch in range(start, epochs):
        rng = np.random.default_rng([entropy(seed), epoch])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        for number, (visible, infrared, labels) in enumerate(sampler.epoch(rng)):
            yield _Step(epoch, number, visible, infrared, labels, generator)


def _update(
    victim: Victim,
    optimizer: torch.optim.Optimizer,
    images: TrainImages,
    step: _Step,
    recipe: Recipe,
    previous: dict[str, float],
    autocast: torch.dtype | None,
) -> dict[str, Tensor]:
    assert isinstance(victim, Trainable), "recipe_of refuses others"
    device = next(victim.parameters()).device
    batch = _make_batch(images, step, recipe, previous, device)
    try:
        with memory_errors():
            with torch.autocast(device.type, autocast, enabled=autocast is not None):
                losses = victim.training_losses(batch)
            optimizer.zero_grad(set_to_none=True)
            torch.stack([loss.float() for loss in losses.values()]).sum().backward()
            optimizer.step()
    except torch.cuda.OutOfMemoryError as error:
        # The losses compare the images of a batch, so halving it would change the training.
        taken = len(batch.visible) + len(batch.infrared)
        raise VbenchError(
            f"training {victim.name}: out of memory with a batch of {taken} images on {device}; "
            "use another device, a smaller --size or --thin"
        ) from error
    return {name: loss.detach() for name, loss in losses.items()}


def _means(losses: Sequence[Mapping[str, Tensor]], victim: Victim, epoch: int) -> dict[str, float]:
    """The means over the batches of an epoch, read at its end: a GPU would wait at each step."""
    values = [loss.double().reshape(()) for batch in losses for loss in batch.values()]
    read = iter(torch.stack(values).tolist())
    sums: dict[str, float] = {}
    for number, batch in enumerate(losses, 1):
        for name in batch:
            value = next(read)
            if not math.isfinite(value):
                where = f"epoch {epoch + 1}, batch {number}"
                raise VbenchError(
                    f"training {victim.name}: the loss is not finite in {where}; lower the learning rate"
                )
            sums[name] = sums.get(name, 0.0) + value / len(losses)
    return sums


def _make_batch(
    images: TrainImages, step: _Step, recipe: Recipe, previous: dict[str, float], device: torch.device
) -> TrainBatch:
    def augmented(pixels: np.ndarray) -> Tensor:
        # As bytes, a quarter of the floats that augmentation makes of them there.
        batch = torch.from_numpy(pixels).to(device)
        changed = augment(
            batch, step.generator, recipe.flip, recipe.padding, recipe.erasing, recipe.erasing_area
        )
        return changed

    visible = images.visible[np.tile(step.visible, recipe.visible_views)]
    return TrainBatch(
        visible=augmented(visible),
        infrared=augmented(images.infrared[step.infrared]),
        labels=torch.from_numpy(step.labels).to(device),
        generator=step.generator,
        instances=recipe.instances,
        epoch=step.epoch,
        epochs=recipe.epochs,
        previous=previous,
        label_smoothing=recipe.label_smoothing,
    )


def _check_fit(victim: Victim, dataset: Dataset, images: TrainImages) -> None:
    classes = len(dataset.train_labels)
    if victim.num_classes != classes:
        raise BadInput(
            f"victim '{victim.name}' was built for {victim.num_classes} identities, "
            f"the training set of {dataset.split} has {classes}"
        )
    for pixels in (images.visible, images.infrared):
        if tuple(pixels.shape[1:3]) != tuple(victim.input_size):
            raise BadInput(
                f"training images are {pixels.shape[1]}x{pixels.shape[2]}, "
                f"victim '{victim.name}' takes {victim.input_size[0]}x{victim.input_size[1]}"
            )


def _facts(
    victim: Victim,
    dataset: Dataset,
    images: TrainImages,
    recipe: Recipe,
    seed: int,
    autocast: torch.dtype | None,
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for array in (images.visible, images.infrared, images.visible_labels, images.infrared_labels):
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    return {
        "victim": victim.name,
        "options": victim.describe(),
        "start": sha256_of(victim.state_dict()),
        "recipe": dataclasses.asdict(recipe),
        "split": dataset.split,
        "seed": seed,
        "images": digest.hexdigest(),
        "precision": str(autocast or torch.float32),
        "device": next(victim.parameters()).device.type,
    }


def _metadata(
    victim: Victim,
    dataset: Dataset,
    recipe: Recipe,
    seed: int,
    held_out: tuple[int, ...],
    validation: dict | None,
) -> dict[str, Any]:
    pids = {label: pid for pid, label in dataset.train_labels.items()}
    return {
        "schema": 1,
        "victim": victim.name,
        "options": victim.describe(),
        "dataset": dataset.name,
        "synthetic": dataset.synthetic,
        "protocol": dataset.protocol,
        "split": dataset.split,
        "epoch": recipe.epochs,
        "selection": "last epoch",
        "seed": seed,
        "recipe": dataclasses.asdict(recipe),
        "held_out_pids": [pids[label] for label in held_out],
        "validation": validation,
        "sha256": sha256_of(victim.state_dict()),
        "device": next(victim.parameters()).device.type,
        "threads": torch.get_num_threads(),
        "vbench": __version__,
        "torch": torch.__version__,
    }


def _as_csv(history: list[dict[str, float]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    return text.getvalue()


_REMEDY = "delete it or train without resuming"


class UnusableState(BadInput):
    """A state file from which training cannot be resumed."""


@dataclass(frozen=True)
class TrainState:
    """The state after an epoch: epochs done, weights, optimiser and the losses so far.

    No random state is needed: every epoch uses generators made from the seed and its own number.
    """

    epochs_done: int
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    history: list[dict[str, float]]

    def restore(self, out: Path, victim: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Restore weights and optimiser; raises UnusableState if they are of another victim."""
        try:
            victim.load_state_dict(self.model)
            optimizer.load_state_dict(self.optimizer)
        except Exception as error:  # a file that is not ours can fail in any way
            raise UnusableState(f"{state_path(out)}: not the state of this victim; {_REMEDY}") from error


def state_path(out: Path) -> Path:
    """Path of the state file that belongs to the weights file ``out``."""
    return out.with_name(out.name + ".partial")


def fingerprint_of(facts: dict[str, Any]) -> str:
    """Hash everything that determines the result, so that a run is never resumed from another one's state."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def save_state(
    out: Path,
    fingerprint: str,
    epochs_done: int,
    victim: nn.Module,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, float]],
) -> None:
    """Write the state after an epoch; the previous one is kept until this one is complete."""
    buffer = io.BytesIO()
    content = {
        "fingerprint": fingerprint,
        "epochs_done": epochs_done,
        "model": victim.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": json.dumps(history),
    }
    torch.save(content, buffer)
    write_atomically(state_path(out), buffer.getvalue())


def load_state(out: Path, fingerprint: str) -> TrainState | None:
    """Read the state of an unfinished run, None if there is none.

    Raises UnusableState for a damaged one and for one left by a run with other settings.
    """
    path = state_path(out)
    if not path.is_file():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about the pickle protocol of files it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
        stored = content["fingerprint"]
        state = TrainState(
            content["epochs_done"], content["model"], content["optimizer"], json.loads(content["history"])
        )
        if type(state.epochs_done) is not int or state.epochs_done < 0 or type(state.history) is not list:
            raise TypeError("no number of epochs, or no history of them")
    except Exception as error:  # a file that is not ours can fail in any way
        raise UnusableState(f"{path}: not the state of a training run; {_REMEDY}") from error
    if stored != fingerprint:
        raise UnusableState(f"{path}: left by a training run with other settings or data; {_REMEDY}")
    return state


def drop_state(out: Path) -> None:
    """Remove the state of a finished run."""
    state_path(out).unlink(missing_ok=True)
