"""Opens the data, victim and surrogates of a setup, and chooses the precision."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from vbench.core.arithmetic import has_bfloat16
from vbench.core.environment import environment
from vbench.core.errors import BadInput, unknown_name
from vbench.core.files import lock_of, write_atomically
from vbench.core.isolation import twin
from vbench.core.processes import all_or_none, from_main, is_main, main_first, own_device
from vbench.core.progress import busy, say
from vbench.core.types import Modality, Side
from vbench.data import open_dataset
from vbench.data.base import Dataset
from vbench.data.open import checked, chosen_protocol, with_queries
from vbench.data.pixels import RESIZE_POLICY, resize
from vbench.data.protocols import SYNTHETIC, check_name
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.records.record import Asked, config_id
from vbench.records.spec import Given, ModelSpec, Setup
from vbench.run.bench import Bench, SurrogateBench
from vbench.run.builtin import thin_weights, untrained
from vbench.victims.base import Edits, Victim, VictimOutput, example_tensor, frozen
from vbench.victims.build import VictimSpec, read_victim, victim_label
from vbench.victims.embed import BATCH, to_images
from vbench.victims.from_file import is_regdb
from vbench.victims.load import check_victim, load_victim, resolve_device
from vbench.victims.precision import DTYPES, Precision, compute_in
from vbench.victims.shards import shard_victim


class Surrogate(Victim):
    """One or more models as a single victim, at the input size of the victim under attack.

    Attacks see images of ``input_size``; for a member with another size they are resized inside, so that
    gradients pass through. A single member keeps its embedding, similarity and stages. Several are an
    ensemble: embeddings are normalised to unit length and concatenated, compared by cosine, logits are
    averaged, and there are no stages. ``resize_filter`` is that of the victim, which decodes the images.
    """

    version: ClassVar[int] = 1
    summary = "stands in for the victim"
    paper = ""
    SETTINGS = ()

    def __init__(self, members: Sequence[Victim], input_size: tuple[int, int], resize_filter: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        # Class attributes of other victims; here they depend on the members and on the victim.
        self.name = "+".join(victim_label(member) for member in members)  # type: ignore[misc]
        self.input_size = (int(input_size[0]), int(input_size[1]))
        self.resize_filter = resize_filter  # type: ignore[misc]
        self.embedding_dim = sum(member.embedding_dim for member in members)
        classes = {member.num_classes for member in members}
        self.num_classes = classes.pop() if len(classes) == 1 else 0
        single = members[0] if len(members) == 1 else None
        self.similarity = single.similarity if single else "cosine"
        self.stages = single.stages if single else ()
        self.forks = single.forks if single else False

    def forward(self, images: Tensor, modality: Modality, edits: Edits | None = None) -> VictimOutput:
        """Embed N x 3 x H x W images in [0, 1] of ``input_size``."""
        self.check_images(images)
        edits = self.check_edits(edits)
        outputs = [member(_at_size_of(member, images), modality, edits) for member in self._members()]
        if len(outputs) == 1:
            return outputs[0]
        embedding = torch.cat([normalize(output.embedding, dim=1) for output in outputs], dim=1)
        logits = [output.logits for output in outputs if output.logits is not None]
        averaged = self.num_classes and len(logits) == len(outputs)
        return VictimOutput(embedding, torch.stack(logits).mean(dim=0) if averaged else None)

    def _members(self) -> list[Victim]:
        # A ModuleList does not know the class of its modules.
        return cast("list[Victim]", list(self.members))

    def describe(self) -> dict[str, object]:
        """Size, resizing, and each member's options: other options make another surrogate."""
        members = [{"name": member.name, **member.describe()} for member in self._members()]
        return {"input_size": list(self.input_size), "resize": RESIZE_POLICY, "members": members}


def _at_size_of(member: Victim, images: Tensor) -> Tensor:
    resized = resize(images, member.input_size)
    return resized if resized is images else resized.clamp(0.0, 1.0)


#: A precision is chosen only if clean Rank-1 changes by fewer points than this ...
MOST_POINTS = 0.5

#: ... and a pass takes less time by at least this share.
LEAST_GAIN = 0.05

_REPEATS = 3


@dataclass(frozen=True)
class Trial:
    """``seconds``: one forward and backward pass of a batch; ``rank1``: clean Rank-1 in percent.

    ``clean``: what the bench found for it, not to be computed again if this precision is chosen.
    """

    precision: Precision
    seconds: float
    rank1: float
    clean: Mapping[str, object] = field(default_factory=dict, repr=False, compare=False)


def choose(trials: Sequence[Trial]) -> Trial:
    """The fastest trial that meets both bounds above against the first trial, else the first."""
    reference = trials[0]
    accurate = [trial for trial in trials if abs(trial.rank1 - reference.rank1) < MOST_POINTS]
    best = min(accurate, key=lambda trial: trial.seconds)
    return best if best.seconds <= (1 - LEAST_GAIN) * reference.seconds else reference


def candidates(precision: str, channels_last: bool | None, device: torch.device) -> list[Precision]:
    """The precisions to choose from, the reference first; on a CPU only one, so that none is tried."""
    if precision not in ("auto", *DTYPES):
        raise unknown_name("precision", precision, ("auto", *DTYPES))
    gpu = device.type == "cuda"
    if precision == "float16" and not gpu:
        raise BadInput("--precision float16 needs a GPU; on a CPU use bfloat16")
    types, layouts = [precision], [bool(channels_last)]
    if precision == "auto":
        half = "bfloat16" if has_bfloat16(device) else "float16"
        types = ["float32", half] if gpu else ["float32"]
    if channels_last is None and gpu:
        layouts = [False, True]
    return [Precision(*pair) for pair in product(types, layouts)]


def choose_precision(
    bench: Bench, precision: str, channels_last: bool | None, cache: Path, quiet: bool = False
) -> None:
    """Set the precision of a bench's victim, before it embeds images.

    ``precision``: one of :data:`vbench.victims.precision.DTYPES` or "auto"; ``channels_last``: None for
    "auto". On a GPU, "auto" is measured once and stored in the folder ``cache``, so that a configuration
    keeps its record; on a CPU it is float32 in the default layout. Raises :class:`BadInput` for an unknown
    precision.
    """
    options = candidates(precision, channels_last, example_tensor(bench.victim).device)
    if not bench.victim.gradients:  # another library computes it, in its own precision
        if precision not in ("auto", "float32"):
            raise BadInput(f"{bench.victim.name} has the precision of its file; leave --precision out")
        options = [Precision()]
    chosen = options[0] if len(options) == 1 else _choose_once(bench, options, cache, quiet)
    compute_in(bench.victim, chosen)


def measure(bench: Bench, precision: Precision) -> Trial:
    """Time one batch and rank all clean images in a precision; the victim stays in it."""
    compute_in(bench.victim, precision)
    for name in _CLEAN:
        vars(bench).pop(name, None)
    ranked = bench.clean_trials
    rank1 = 100 * sum(trial.rank(1) for trial in ranked) / len(ranked)
    return Trial(precision, _seconds(bench), rank1, {name: vars(bench)[name] for name in _CLEAN})


#: What a bench keeps of the clean images in the victim's precision.
_CLEAN = ("clean", "clean_trials")


def _seconds(bench: Bench) -> float:
    victim, modality = bench.victim, bench.modality(Side.QUERY)
    images = to_images(bench.pixels[Side.QUERY][:BATCH], victim)
    times = []
    with frozen(victim), torch.enable_grad():
        for _ in range(_REPEATS + 1):
            start, variable = time.perf_counter(), images.detach().requires_grad_(True)
            torch.autograd.grad(victim(variable, modality).embedding.sum(), variable)
            if images.is_cuda:
                torch.cuda.synchronize(images.device)
            times.append(time.perf_counter() - start)
    # The first pass is slower: kernels are chosen.
    return statistics.median(times[1:])


def _choose_once(bench: Bench, options: Sequence[Precision], cache: Path, quiet: bool) -> Precision:
    place = {
        key: environment(example_tensor(bench.victim).device)[key] for key in ("versions", "device_name")
    }
    cards = [option.card() for option in options]
    key = {"victim": bench.weights_hash, "data": bench.data_card(), "place": place, "options": cards}
    path = cache / f"{config_id(key)}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    # Runs that measure at the same time would slow each other down, and might choose differently; the
    # processes of one run measure together.
    with lock_of(path) if is_main() else nullcontext():
        return from_main(lambda: _stored(path, options)) or _measured(bench, options, path, quiet)


def _stored(path: Path, options: Sequence[Precision]) -> Precision | None:
    try:
        stored = Precision(**json.loads(path.read_text()))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return stored if stored in options else None


def _measured(bench: Bench, options: Sequence[Precision], path: Path, quiet: bool) -> Precision:
    try:
        with all_or_none():
            trials = [measure(bench, option) for option in options]
    except torch.cuda.OutOfMemoryError:
        say(f"{bench.victim.name}: no memory to try precisions in; {options[0]}", quiet)
        return options[0]
    chosen = from_main(lambda: trials.index(choose(trials)))
    best = trials[chosen]
    vars(bench).update(best.clean)
    gain, first = trials[0].seconds / best.seconds, trials[0].rank1
    gained = f"{gain:.2f} times as fast as {options[0]}, clean Rank-1 {first:.1f} -> {best.rank1:.1f}"
    say(f"{bench.victim.name} computes in {best.precision}: {gained}", quiet)
    if is_main():
        write_atomically(path, json.dumps(best.precision.card()))
    return best.precision


@dataclass(frozen=True)
class Opener:
    """Opens the data set, victim and surrogates of a setup.

    ``fresh`` decodes images again instead of using the cache. ``option``: the option for the weights of
    ``{victim}``, for error messages.
    """

    setup: Setup
    fresh: bool = False
    option: str = "--weights"

    @property
    def dataset(self) -> str | Dataset:
        """The name of the data set, or the opened data set that the caller gave."""
        given = unwrapped(self.setup.data.dataset)
        return given if isinstance(given, Dataset) else check_name(given)

    @property
    def synthetic(self) -> bool:
        """Whether this is the built-in synthetic data set, which is written on first use."""
        return self.dataset == SYNTHETIC

    def check(self) -> None:
        """Raise :class:`BadInput` for invalid data, device or precision; opens nothing."""
        self.check_data()
        device = resolve_device(own_device(self.setup.device))
        candidates(self.setup.precision, self.setup.channels_last, device)

    def check_data(self) -> None:
        """Raise :class:`BadInput` for an unknown data set, a missing root, or options that do not fit it."""
        data, dataset = self.setup.data, self.dataset
        if isinstance(dataset, Dataset):
            if data.root is not None or data.protocol not in ("", dataset.protocol):
                where = f"{dataset.root} under {dataset.protocol}"
                raise BadInput(f"the dataset is open already, in {where}")
        elif dataset == SYNTHETIC:
            if data.root is not None:
                raise BadInput("--root is for real data; name its layout: --dataset sysu, regdb or llcm")
            chosen_protocol(data.layout, data.protocol or None)
        else:
            check_named(dataset, data.root)

    def open(self, cache: Path, quiet: bool = False) -> Dataset:
        """Open the data set; the synthetic set is written on first use."""
        opened, queries = self._open(cache, quiet), self.setup.data.queries
        found = opened if queries is None else with_queries(opened, queries)
        return opened if found is opened else replace(found, reduced=True)

    def _open(self, cache: Path, quiet: bool) -> Dataset:
        self.check_data()
        data, dataset = self.setup.data, self.dataset
        if isinstance(dataset, Dataset):
            return checked(dataset, "the dataset")
        if dataset == SYNTHETIC:
            with main_first():
                written = SyntheticSet(layout=data.layout, size=self._size()).write(cache, quiet)
            return open_dataset(data.layout, written, data.protocol or None)
        return open_named(dataset, data.root, data.protocol or None)

    def bench(self, dataset: Dataset, cache: Path, quiet: bool = False) -> Bench:
        """The victim on an opened data set; without weights a thin one, trained on first use.

        A victim object is copied and stays on its device.
        """
        model = self.setup.victim
        batch = self.setup.batch_size
        with nullcontext() if model.weights is None else busy(f"loading {model.weights}", quiet):
            victim = self._load(model, dataset, cache, quiet)
        bench = Bench(dataset, victim, cache / "images", quiet, self.fresh, batch)
        bench.asked = Asked(
            synthetic=self.synthetic,
            size=self._size() if self.synthetic else None,
            weights=isinstance(model.victim, Given) or model.weights is not None,
        )
        return self._in_precision(bench, cache, quiet)

    def source(
        self,
        bench: Bench,
        cache: Path,
        quiet: bool = False,
        opened: Callable[[ModelSpec], Bench] | None = None,
    ) -> Bench:
        """The surrogates on the images of ``bench``, for transfer to its victim.

        ``opened`` returns the bench of a surrogate that other runs share. A single shared surrogate with the
        victim's input size and filter reuses its embeddings.
        """
        models, victim = self.setup.surrogates, bench.victim
        shared = [opened(model) for model in models] if opened else []
        members = [one.victim for one in shared] or [
            self._load(model, bench.dataset, cache, quiet) for model in models
        ]
        device = example_tensor(victim).device
        surrogate = Surrogate(members, victim.input_size, victim.resize_filter).to(device).eval()
        if len(shared) == 1 and _images_of(members[0]) == _images_of(victim):
            return SurrogateBench(shared[0], surrogate)
        source = Bench(bench.dataset, surrogate, cache / "images", quiet, self.fresh, bench.batch)
        source.asked = Asked(weights=any(model.weights is not None for model in models))
        return self._in_precision(source, cache, quiet)

    def structure(self, model: ModelSpec) -> Victim:
        """A victim to check attacks with before any work: with its weights if it has some, else untrained.

        Raises :class:`BadInput` for options or a checkpoint that do not fit.
        """
        victim, weights = victim_of(model), model.weights
        if not isinstance(victim, Victim):
            if not model.is_trained:
                return untrained(victim, self._size())
            return self._load_trained(victim, weights, "cpu")
        if weights is not None:
            raise BadInput(f"victim '{victim.name}' is loaded already; weights are for victims by name")
        check_victim(victim)
        return twin(victim)

    def check_fits(self, model: ModelSpec, victim: Victim | None, dataset: Dataset) -> None:
        """Raise :class:`BadInput` if a victim's weights are missing, or may not be tested on ``dataset``.

        ``victim``: the victim with its weights; None if there are none.
        """
        asked = f"victim '{victim_of(model).name}'"
        if victim is not None and model.is_trained:
            _check_split(victim, dataset, model.weights or asked, self.setup.ignore_gates)
        elif not dataset.synthetic:
            own = model == self.setup.victim
            option = self.option.format(victim=model.victim) if own else "--surrogate-weights"
            raise BadInput(f"{asked} on {dataset.name} needs {option}, its released checkpoint")

    def _in_precision(self, bench: Bench, cache: Path, quiet: bool) -> Bench:
        choose_precision(bench, self.setup.precision, self.setup.channels_last, cache / "precision", quiet)
        return bench

    def _load(self, model: ModelSpec, dataset: Dataset, cache: Path, quiet: bool) -> Victim:
        victim = victim_of(model)
        if isinstance(victim, Victim):
            loaded = self.structure(model)
            self.check_fits(model, loaded, dataset)
            return loaded
        device = own_device(self.setup.device)
        if model.is_trained:
            loaded = self._load_trained(victim, model.weights, device)
            self.check_fits(model, loaded, dataset)
        else:
            self.check_fits(model, None, dataset)
            with main_first():
                thin = thin_weights(victim, dataset, cache, self._size(), quiet=quiet)
            loaded = load_victim(victim.name, thin, device=device, **victim.settings)
        shard_victim(loaded)
        return loaded

    def _load_trained(self, victim: VictimSpec, weights: str | None, device: str) -> Victim:
        allowed = self.setup.allow_code
        return load_victim(victim.name, weights, device=device, allow_code=allowed, **victim.options)

    def _size(self) -> tuple[int, int]:
        return self.setup.data.size or SyntheticSet().size


def unwrapped(value: Any) -> Any:
    """The object in a :class:`Given`; other values as they are."""
    return value.value if isinstance(value, Given) else value


def victim_of(model: ModelSpec) -> VictimSpec | Victim:
    """The victim of a spec; raises :class:`BadInput` for an unknown name or option."""
    victim = unwrapped(model.victim)
    return victim if isinstance(victim, Victim) else read_victim(victim)


def check_named(name: str, root: Path | str | None) -> Path:
    """Return ``root``; raises :class:`BadInput` if it is missing, and for unknown names."""
    if check_name(name) == SYNTHETIC:
        raise BadInput("synthetic data have no folder; name a real data set, or a layout")
    if root is None:
        raise BadInput(f"--dataset {name} needs --root, the folder its owner ships")
    return Path(root)


def open_named(name: str, root: Path | str | None, protocol: str | None = None) -> Dataset:
    """Open the data set in ``root``: built-in, of an installed reader, or of a reader given by path."""
    return open_dataset(name, check_named(name, root), protocol)


def _images_of(victim: Victim) -> tuple[tuple[int, int], str]:
    height, width = victim.input_size
    return (height, width), victim.resize_filter


def _check_split(victim: Victim, dataset: Dataset, weights: str, ignore: bool) -> None:
    """Refuse weights that may have been trained on the identities under test, or on another data set.

    The split recorded with the weights decides; for released weights also the number of identities. Other
    models may have been trained on anything: an unexpected number of identities is only noted.
    """
    if ignore:
        return
    split = victim.weights_metadata.get("split")
    if split and split != dataset.split:
        raise BadInput(
            f"{weights} was trained on split {split}, and {dataset.protocol} tests split {dataset.split}: "
            "its training identities are not those of this split and may be among the tested ones "
            "(--ignore-gates runs anyway)"
        )
    if not split and dataset.name == "regdb" and is_regdb(victim.num_classes):
        raise BadInput(
            f"{weights} does not say on which of RegDB's ten splits it was trained; record it with "
            "vbench victims convert --split regdb/trial-N, or for a loaded victim with "
            "victim.weights_metadata['split'] = 'regdb/trial-N' (--ignore-gates runs anyway)"
        )
    classes = len(dataset.train_labels)
    if victim.num_classes in (0, classes):
        return
    found = (
        f"{weights}: its classifier knows {victim.num_classes} identities, the training set of "
        f"{dataset.split} has {classes}"
    )
    if split or victim.released is not None:
        raise BadInput(f"{found}; weights of another data set? (--ignore-gates runs anyway)")
    say(f"note: {found}; vbench cannot check whether it was trained on the tested identities")
