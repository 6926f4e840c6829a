"""From what a user names to a workbench: dataset opened, victim loaded, gates checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vbench.data import open_dataset
from vbench.data.base import Dataset
from vbench.defaults import SyntheticSet, thin_weights
from vbench.errors import BadInput
from vbench.victims.load import load_victim
from vbench.workbench import Workbench

SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class Choice:
    """What to evaluate on what.

    ``dataset``: "synthetic", or a layout with ``root``. ``layout`` and ``size`` apply to synthetic data.
    ``ignore_gates`` lets weights run on a split whose training identities they may not have been kept from.
    """

    dataset: str = SYNTHETIC
    root: Path | None = None
    protocol: str | None = None
    layout: str = "sysu"
    size: tuple[int, int] | None = None
    weights: Path | None = None
    device: str = "auto"
    ignore_gates: bool = False

    def open(self, cache: Path, quiet: bool = False) -> Dataset:
        """Open the dataset, writing the synthetic one on first use."""
        if self.dataset == SYNTHETIC:
            if self.root is not None:
                raise BadInput("--root is for real data; name its layout: --dataset sysu, regdb or llcm")
            return open_dataset(self.layout, self._synthetic().write(cache, quiet), self.protocol)
        if self.root is None:
            raise BadInput(f"--dataset {self.dataset} needs --root, the folder its owner ships")
        return open_dataset(self.dataset, self.root, self.protocol)

    def workbench(self, victim: str, dataset: Dataset, cache: Path, quiet: bool = False) -> Workbench:
        """Load a victim for an opened dataset; on synthetic data a thin one is trained on first use."""
        weights = self.weights
        if weights is None and not dataset.synthetic:
            raise BadInput(f"victim '{victim}' on {dataset.name} needs --weights, its released checkpoint")
        if weights is None:
            weights = thin_weights(victim, dataset, cache, self._size(dataset), quiet=quiet)
        loaded = load_victim(victim, weights, device=self.device)
        _check_split(loaded.weights_metadata, dataset, weights, self.ignore_gates)
        return Workbench(dataset, loaded, cache / "images", quiet)

    def _synthetic(self) -> SyntheticSet:
        chosen = SyntheticSet(layout=self.layout)
        return replace(chosen, size=self.size) if self.size else chosen

    def _size(self, dataset: Dataset) -> tuple[int, int]:
        return self.size or SyntheticSet().size


def _check_split(metadata: dict[str, object], dataset: Dataset, weights: Path, ignore: bool) -> None:
    split = metadata.get("split")
    if split and split != dataset.split and not ignore:
        raise BadInput(
            f"{weights} was trained on split {split}, and {dataset.protocol} tests split {dataset.split}: "
            "identities it was trained on would be tested (--ignore-gates runs anyway)"
        )
