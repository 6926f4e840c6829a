"""From what a user names to a workbench: dataset opened, victim loaded, gates checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vbench.data import open_dataset
from vbench.data.base import Dataset
from vbench.data.protocols import LAYOUTS
from vbench.data.reader import read_with
from vbench.defaults import SyntheticSet, thin_weights
from vbench.errors import BadInput, unknown_name
from vbench.parallel.devices import own_device
from vbench.parallel.group import one_first
from vbench.parallel.shards import share
from vbench.precision_choice import settle
from vbench.record import Asked
from vbench.registry import datasets
from vbench.surrogate import Surrogate
from vbench.victim_spec import VictimSpec, read_victim
from vbench.victims.base import Victim
from vbench.victims.load import load_victim
from vbench.victims.split import is_regdb
from vbench.workbench import Workbench, Wrapped

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Choice:
    """What to evaluate on what.

    ``dataset``: "synthetic"; a layout, or a reader's name or path, with ``root``; or one that is open
    already. ``layout`` and ``size`` apply to synthetic data.
    ``ignore_gates`` lets weights run on a split whose training identities they may not have been kept from.
    ``surrogates`` are the victims attacks are crafted on where they are transferred, with
    ``surrogate_weights`` in the same order (none on synthetic data). ``precision`` and ``channels_last`` as
    of :func:`vbench.precision_choice.settle`.
    """

    dataset: str | Dataset = SYNTHETIC
    root: Path | None = None
    protocol: str | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None
    weights: Path | None = None
    device: str = "auto"
    ignore_gates: bool = False
    surrogates: tuple[str, ...] = ()
    surrogate_weights: tuple[Path, ...] = ()
    precision: str = "auto"
    channels_last: bool | None = None

    def open(self, cache: Path, quiet: bool = False) -> Dataset:
        """Open the dataset, writing the synthetic one on first use."""
        if isinstance(self.dataset, Dataset):
            return self._opened(self.dataset)
        if self.dataset == SYNTHETIC:
            if self.root is not None:
                raise BadInput("--root is for real data; name its layout: --dataset sysu, regdb or llcm")
            with one_first():
                written = self._synthetic().write(cache, quiet)
            return open_dataset(self.layout, written, self.protocol)
        return open_named(self.dataset, self.root, self.protocol)

    def _opened(self, dataset: Dataset) -> Dataset:
        if self.root is not None or self.protocol not in (None, dataset.protocol):
            raise BadInput(f"the dataset is open already, in {dataset.root} under {dataset.protocol}")
        return dataset

    def workbench(
        self, victim: str | VictimSpec | Victim, dataset: Dataset, cache: Path, quiet: bool = False
    ) -> Workbench:
        """Load a victim for an opened dataset; on synthetic data a thin one, trained on first use.

        A victim that is loaded already is taken as it is, on its own device.
        """
        if isinstance(victim, Victim):
            if self.weights is not None:
                raise BadInput(f"victim '{victim.name}' is loaded already; weights are for victims by name")
            _check_split(victim, dataset, f"victim '{victim.name}'", self.ignore_gates)
            loaded = victim
        else:
            spec = read_victim(victim) if isinstance(victim, str) else victim
            loaded = self._load(spec, self.weights, "--weights", dataset, cache, quiet)
        bench = self._settled(Workbench(dataset, loaded, cache / "images", quiet), cache, quiet)
        drawn = self.dataset == SYNTHETIC
        bench.asked = Asked(
            synthetic=drawn,
            size=self._size(dataset) if drawn else None,
            weights=loaded is victim or self.weights is not None,
        )
        return bench

    def source(
        self,
        bench: Workbench,
        cache: Path,
        quiet: bool = False,
        opened: Callable[[VictimSpec], Workbench] | None = None,
    ) -> Workbench:
        """The surrogates' workbench for transfer to the victim of ``bench``, over the same images.

        ``opened`` gives the workbench of a thin victim that others use too; a single surrogate for images of
        its own size then brings its embeddings along.
        """
        weights = [*self.surrogate_weights] or [None] * len(self.surrogates)
        if len(weights) != len(self.surrogates):
            raise BadInput(
                f"{len(weights)} --surrogate-weights for {len(self.surrogates)} surrogates; give one for each"
            )
        shared = [opened(read_victim(name)) for name in self.surrogates] if opened else []
        members = [one.victim for one in shared] or [
            self._load(read_victim(name), file, "--surrogate-weights", bench.dataset, cache, quiet)
            for name, file in zip(self.surrogates, weights, strict=True)
        ]
        victim = bench.victim
        device = next(victim.parameters()).device
        stands_in = Surrogate(members, victim.input_size, victim.resize_filter).to(device).eval()
        if len(shared) == 1 and _images_of(members[0]) == _images_of(victim):
            return Wrapped(shared[0], stands_in)
        source = Workbench(bench.dataset, stands_in, cache / "images", quiet)
        source.asked = Asked(weights=bool(self.surrogate_weights))
        return self._settled(source, cache, quiet)

    def _settled(self, bench: Workbench, cache: Path, quiet: bool) -> Workbench:
        settle(bench, self.precision, self.channels_last, cache / "precision", quiet)
        return bench

    def _load(
        self,
        spec: VictimSpec,
        weights: Path | None,
        option: str,
        dataset: Dataset,
        cache: Path,
        quiet: bool,
    ) -> Victim:
        device = own_device(self.device)
        if weights is not None:
            loaded = load_victim(spec.name, weights, device=device, **spec.options)
            _check_split(loaded, dataset, weights, self.ignore_gates)
            share(loaded)
            return loaded
        if not dataset.synthetic:
            raise BadInput(f"victim '{spec.name}' on {dataset.name} needs {option}, its released checkpoint")
        with one_first():
            thin = thin_weights(spec, dataset, cache, self._size(dataset), quiet=quiet)
        loaded = load_victim(spec.name, thin, device=device, **spec.settings)
        share(loaded)
        return loaded

    def _synthetic(self) -> SyntheticSet:
        chosen = SyntheticSet(layout=self.layout)
        return replace(chosen, size=self.size) if self.size else chosen

    def _size(self, dataset: Dataset) -> tuple[int, int]:
        return self.size or SyntheticSet().size


def open_named(name: str, root: Path | None, protocol: str | None = None) -> Dataset:
    """Open a layout, an installed reader's set, or that of a reader given by path, under ``root``."""
    if name not in LAYOUTS and ":" not in name and name not in datasets.names():
        raise unknown_name("dataset", name, (SYNTHETIC, *LAYOUTS, *datasets.names()))
    if root is None:
        raise BadInput(f"--dataset {name} needs --root, the folder its owner ships")
    if name in LAYOUTS:
        return open_dataset(name, root, protocol)
    return read_with(datasets.load(name)(), root, protocol)


def _images_of(victim: Victim) -> tuple[tuple[int, int], str]:
    return tuple(victim.input_size), victim.resize_filter


def _check_split(victim: Victim, dataset: Dataset, weights: Path | str, ignore: bool) -> None:
    if ignore:
        return
    split = victim.weights_metadata.get("split")
    if split and split != dataset.split:
        raise BadInput(
            f"{weights} was trained on split {split}, and {dataset.protocol} tests split {dataset.split}: "
            "identities it was trained on would be tested, or others than it classifies "
            "(--ignore-gates runs anyway)"
        )
    if not split and dataset.name == "regdb" and is_regdb(victim.num_classes):
        raise BadInput(
            f"{weights} does not say on which of RegDB's ten splits it was trained; record it with "
            "vbench victims convert --split regdb/trial-N (--ignore-gates runs anyway)"
        )
    classes = len(dataset.train_labels)
    if victim.num_classes not in (0, classes):
        raise BadInput(
            f"{weights}: its classifier knows {victim.num_classes} identities, the training set of "
            f"{dataset.split} has {classes}; weights of another data set? (--ignore-gates runs anyway)"
        )
