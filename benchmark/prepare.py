"""From what a user names to a workbench: dataset opened, victim loaded, gates checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from vbench.data import open_dataset
from vbench.data.base import Dataset
from vbench.data.check import checked
from vbench.data.names import SYNTHETIC, check_name
from vbench.data.open import chosen_protocol
from vbench.data.protocols import LAYOUTS
from vbench.data.reader import read_with
from vbench.data.registry import datasets
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.defaults import thin_weights, untrained
from vbench.errors import BadInput
from vbench.parallel.devices import own_device
from vbench.parallel.group import one_first
from vbench.parallel.shards import share
from vbench.plugins import explained
from vbench.precision_choice import candidates, settle
from vbench.progress import say
from vbench.record import Asked
from vbench.sandbox import twin
from vbench.surrogate import Surrogate
from vbench.victim_spec import VictimSpec, read_victim
from vbench.victims.base import Victim, example_tensor
from vbench.victims.check import check_victim
from vbench.victims.load import load_victim, resolve_device
from vbench.victims.split import is_regdb
from vbench.workbench import Workbench, Wrapped


@dataclass(frozen=True)
class Named:
    """A victim by name, or one that is loaded already; its file, and the option that names the file."""

    victim: VictimSpec | Victim
    weights: Path | None = None
    option: str = "--weights"


@dataclass(frozen=True)
class Choice:
    """What to evaluate on what.

    ``dataset``: "synthetic"; a layout, or a reader's name or path, with ``root``; or one that is open
    already. ``layout`` and ``size`` apply to synthetic data.
    ``ignore_gates`` lets weights run on a split whose training identities they may not have been kept from.
    ``surrogates`` are the victims attacks are crafted on where they are transferred, with
    ``surrogate_weights`` in the same order (none on synthetic data). ``precision`` and ``channels_last`` as
    of :func:`vbench.precision_choice.settle`. ``fresh`` decodes images anew, whatever the cache holds.
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
    fresh: bool = False

    def open(self, cache: Path, quiet: bool = False) -> Dataset:
        """Open the dataset, writing the synthetic one on first use."""
        self.check_data()
        if isinstance(self.dataset, Dataset):
            return checked(self.dataset, "the dataset")
        if self.dataset == SYNTHETIC:
            with one_first():
                written = self._synthetic().write(cache, quiet)
            return open_dataset(self.layout, written, self.protocol)
        return open_named(self.dataset, self.root, self.protocol)

    def check(self) -> None:
        """Raise :class:`BadInput` for data, a device or a precision that cannot be had; opens nothing."""
        self.check_data()
        candidates(self.precision, self.channels_last, resolve_device(own_device(self.device)))
        self.stand_ins()

    def check_data(self) -> None:
        """Raise :class:`BadInput` for a dataset that :meth:`open` could not even look for."""
        if isinstance(self.dataset, Dataset):
            if self.root is not None or self.protocol not in (None, self.dataset.protocol):
                where = f"{self.dataset.root} under {self.dataset.protocol}"
                raise BadInput(f"the dataset is open already, in {where}")
        elif self.dataset == SYNTHETIC:
            if self.root is not None:
                raise BadInput("--root is for real data; name its layout: --dataset sysu, regdb or llcm")
            chosen_protocol(self.layout, self.protocol)
        else:
            check_named(self.dataset, self.root)

    def workbench(
        self, victim: str | VictimSpec | Victim, dataset: Dataset, cache: Path, quiet: bool = False
    ) -> Workbench:
        """Load a victim for an opened dataset; on synthetic data a thin one, trained on first use.

        Of a victim that is loaded already a copy is taken, on its own device.
        """
        named = Named(read_victim(victim) if isinstance(victim, str) else victim, self.weights)
        loaded = self._load(named, dataset, cache, quiet)
        bench = Workbench(dataset, loaded, cache / "images", quiet, self.fresh)
        drawn = self.dataset == SYNTHETIC
        bench.asked = Asked(
            synthetic=drawn,
            size=self._size() if drawn else None,
            weights=isinstance(victim, Victim) or self.weights is not None,
        )
        return self._settled(bench, cache, quiet)

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
        shared = [opened(read_victim(name)) for name in self.surrogates] if opened else []
        members = [one.victim for one in shared] or [
            self._load(named, bench.dataset, cache, quiet) for named in self.stand_ins()
        ]
        victim = bench.victim
        device = example_tensor(victim).device
        stands_in = Surrogate(members, victim.input_size, victim.resize_filter).to(device).eval()
        if len(shared) == 1 and _images_of(members[0]) == _images_of(victim):
            return Wrapped(shared[0], stands_in)
        source = Workbench(bench.dataset, stands_in, cache / "images", quiet, self.fresh)
        source.asked = Asked(weights=bool(self.surrogate_weights))
        return self._settled(source, cache, quiet)

    def stand_ins(self) -> list[Named]:
        """The surrogates with their files; :class:`BadInput` where some have none."""
        files = self.surrogate_weights or [None] * len(self.surrogates)
        if len(files) != len(self.surrogates):
            raise BadInput(
                f"{len(files)} --surrogate-weights for {len(self.surrogates)} surrogates; give one for each"
            )
        pairs = zip(self.surrogates, files, strict=True)
        return [Named(read_victim(name), file, "--surrogate-weights") for name, file in pairs]

    def _settled(self, bench: Workbench, cache: Path, quiet: bool) -> Workbench:
        settle(bench, self.precision, self.channels_last, cache / "precision", quiet)
        return bench

    def _load(self, named: Named, dataset: Dataset, cache: Path, quiet: bool) -> Victim:
        if isinstance(named.victim, Victim):
            loaded = self.structure(named)
            self.check_fits(named, loaded, dataset)
            return loaded
        spec, device = named.victim, own_device(self.device)
        if named.weights is not None:
            loaded = load_victim(spec.name, named.weights, device=device, **spec.options)
            self.check_fits(named, loaded, dataset)
        else:
            self.check_fits(named, None, dataset)
            with one_first():
                thin = thin_weights(spec, dataset, cache, self._size(), quiet=quiet)
            loaded = load_victim(spec.name, thin, device=device, **spec.settings)
        share(loaded)
        return loaded

    def structure(self, named: Named) -> Victim:
        """A victim that attacks can be checked against before any work: thin ones are not trained.

        Raises :class:`BadInput` for options or a file of weights that do not fit.
        """
        victim, weights = named.victim, named.weights
        if not isinstance(victim, Victim):
            if weights is None:
                return untrained(victim, self._size())
            return load_victim(victim.name, weights, device="cpu", **victim.options)
        if weights is not None:
            raise BadInput(f"victim '{victim.name}' is loaded already; weights are for victims by name")
        check_victim(victim)
        return twin(victim)

    def check_fits(self, named: Named, victim: Victim | None, dataset: Dataset) -> None:
        """Raise :class:`BadInput` where a victim's weights are missing, or may not be tested on ``dataset``.

        ``victim``: with its weights, None where none are given.
        """
        if named.weights is not None:
            _check_split(victim, dataset, named.weights, self.ignore_gates)
        elif isinstance(named.victim, Victim):
            _check_split(victim, dataset, f"victim '{victim.name}'", self.ignore_gates)
        elif not dataset.synthetic:
            asked = f"victim '{named.victim.name}' on {dataset.name}"
            raise BadInput(f"{asked} needs {named.option}, its released checkpoint")

    def _synthetic(self) -> SyntheticSet:
        chosen = SyntheticSet(layout=self.layout)
        return replace(chosen, size=self.size) if self.size else chosen

    def _size(self) -> tuple[int, int]:
        return self.size or SyntheticSet().size


def check_named(name: str, root: Path | None) -> None:
    """Raise :class:`BadInput` for what :func:`open_named` does not know, and for a missing ``root``."""
    if check_name(name) == SYNTHETIC:
        raise BadInput("synthetic data are drawn; name a real data set, or the layout of drawn ones")
    if root is None:
        raise BadInput(f"--dataset {name} needs --root, the folder its owner ships")


def open_named(name: str, root: Path | None, protocol: str | None = None) -> Dataset:
    """Open a layout, an installed reader's set, or that of a reader given by path, under ``root``."""
    check_named(name, root)
    if name in LAYOUTS:
        return open_dataset(name, root, protocol)
    reader = datasets.load(name)
    with explained(f"dataset '{name}'", reader):
        made = reader()
    return read_with(made, root, protocol)


def _images_of(victim: Victim) -> tuple[tuple[int, int], str]:
    return tuple(victim.input_size), victim.resize_filter


def _check_split(victim: Victim, dataset: Dataset, weights: Path | str, ignore: bool) -> None:
    """Refuse weights that may have been trained on the identities under test, or that are of another set.

    That is told by the split that the weights name, and by the number of identities where they are of a model
    whose files are for these sets. A model of one's own may have been trained on anything: its number of
    identities says nothing, but that it can only be told with a note.
    """
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
            "vbench victims convert --split regdb/trial-N, or of a loaded victim with "
            "victim.weights_metadata['split'] = 'regdb/trial-N' (--ignore-gates runs anyway)"
        )
    classes = len(dataset.train_labels)
    if victim.num_classes in (0, classes):
        return
    told = (
        f"{weights}: its classifier knows {victim.num_classes} identities, the training set of "
        f"{dataset.split} has {classes}"
    )
    if split or victim.released is not None:
        raise BadInput(f"{told}; weights of another data set? (--ignore-gates runs anyway)")
    say(f"note: {told}: trained on other people, or on these and some more; vbench cannot tell")
