"""A folder in which commands and samples of the pages find everything that they name, all of it tiny."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import quick
import torch
from own_victim import Net
from pages import PAGES, ROOT, blocks
from pipeline.conftest import vbench
from torch.export import Dim, export, save

from vbench.data.synthetic import write_dataset
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.gate.baseline import write_baseline
from vbench.gate.compare import make_baseline
from vbench.records.files import KEEPABLE
from vbench.records.spec import Request
from vbench.records.store import RunStore, to_archive
from vbench.run.prepare import open_named
from vbench.run.session import Session
from vbench.sweep.read import read_suite
from vbench.sweep.state import States
from vbench.sweep.tasks import tasks_of
from vbench.victims.checkpoint import read_checkpoint

__all__ = ["vbench"]


def untrained(spec, dataset, cache, size, seed=0, quiet=True):
    """In place of :func:`vbench.run.builtin.thin_weights`: a thinner victim that nobody trained."""
    path = cache / "victims" / f"{spec.name}-{len(dataset.train_labels)}.safetensors"
    return path if path.exists() else quick.write_weights(path, spec.name, dataset)


def _thin_file(released: Path) -> Path:
    """Where thin weights lie that are read instead of a released file, which would have hundreds of MB."""
    return released if released.suffix == ".safetensors" else released.with_suffix(".safetensors")


def model_file(path: Path) -> None:
    """Write a tiny network, if it is a file that holds one."""
    if path.suffix == ".onnx":
        shutil.copy(ROOT / "tests" / "pipeline" / "tiny.onnx", path)
    elif path.suffix == ".pt2":
        images = torch.rand(2, 3, *quick.SIZE)
        save(export(Net().eval(), (images,), dynamic_shapes=({0: Dim("n")},)), path)


def shrink(patched: pytest.MonkeyPatch) -> None:
    """Make the embedded data and its victims so small that drawing, embedding and attacking take no time."""
    patched.setattr(SyntheticSet.__init__, "__defaults__", ("sysu", quick.IDS, 6, 0, quick.SIZE))
    patched.setattr("vbench.run.prepare.thin_weights", untrained)
    patched.setattr("vbench.api.thin_weights", untrained)
    patched.setattr(
        "vbench.victims.from_file.read_checkpoint", lambda path: read_checkpoint(_thin_file(path))
    )
    patched.setattr("vbench.audit.LEAST_IDENTITIES", 2)
    # A handful of images and two seeds guard nothing.
    patched.setattr("vbench.gate.baseline.Baseline.unguarded", lambda baseline, seeds: [])
    patched.setattr("vbench.run.summary.clean_gate", lambda bench: None)
    patched.setattr("vbench.run.execute.clean_gate", lambda bench: None)


@dataclass(frozen=True)
class World:
    """The folder that commands are typed in: sample files, records and the folders of readers."""

    folder: Path

    def provide(self, words: Sequence[str]) -> None:
        """Put what a command reads where it names it, and make way for what it writes."""
        pairs = list(pairwise(words))
        given = {name: [value for option, value in pairs if option == name] for name, _ in pairs}
        for out in given.get("--out", []):
            Path(out).unlink() if Path(out).is_file() else None
        if words[1] == "check":
            Path(words[2]).parent.mkdir(exist_ok=True)
            shutil.copy("baseline.json", words[2])
        layout = words[3] if list(words[1:3]) == ["data", "verify"] else given.get("--dataset", ["sysu"])[0]
        for victim in given.get("--victim", []):
            model_file(Path(victim.partition("[")[0]))
        for root in given.get("--root", []):
            Path(root).unlink(missing_ok=True)
            Path(root).symlink_to(self.copy_of(layout))
        released = words[3:4] if list(words[1:3]) == ["victims", "convert"] else ()
        for text in (*given.get("--weights", ()), *released):
            victim, _, file = text.rpartition("=")
            self._weights(victim or given["--victim"][0], file, layout, given)

    def copy_of(self, dataset: str) -> Path:
        """A tiny data set in the layout of a real one, or as the sample reader expects it."""
        if ":" in dataset:
            return self._named()
        folder = self.folder / "sets" / dataset
        return write_dataset(dataset, folder, quick.IDS, 3, quick.SIZE, test_ids=6, quiet=True)

    def _named(self) -> Path:
        source, folder = open_named("sysu", self.copy_of("sysu")), self.folder / "sets" / "named"
        quick.copy_under_names(source, folder)
        return folder

    def _weights(self, victim: str, file: str, layout: str, given: dict[str, list[str]]) -> None:
        (protocol,) = given.get("--protocol", [None])[:1]
        trials = range(1, 11) if "{trial}" in file else (None,)
        for trial in trials:
            asked = protocol if trial is None else f"{protocol}/trial-{trial}"
            dataset = open_named(layout, self.copy_of(layout), asked)
            path = Path(file.replace("{trial}", str(trial)))
            path.touch()
            quick.write_weights(_thin_file(path), victim, dataset)


@pytest.fixture(scope="session")
def world(tmp_path_factory) -> World:
    """One for all commands; records of two attacks lie in it, with all that can be kept."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patched:
        _enter(folder, patched)
        for block in (block for page in PAGES for block in blocks(page) if block.file):
            Path(block.file).write_text(block.text)
        session = Session(Path("runs"), quiet=True, keep=KEEPABLE)
        both = Request(victims=["agw"], attacks=["metric_ifgsm", "uap[evaluations=64]"])
        plain, learnt = session.run_all(both.specs())
        smaller = Request(victims=["agw"], attacks=["metric_ifgsm"], eps="4/255")
        Session(Path("runs"), quiet=True).run_all(smaller.specs())
        asked = Request(victims=["agw"], attacks=["noise", "metric_ifgsm", "uap[evaluations=64]"])
        write_baseline(Path("baseline.json"), make_baseline(asked, range(2), folder, 0.005, quiet=True))
        suite = read_suite(Path("suite.yaml"))
        States.of(Path("runs"), suite.suite.name).list_tasks(folder / "suite.yaml", tasks_of(suite), 1)
    for copy in ("mine", "submissions/alice", "submissions/bob"):
        RunStore(folder / copy).write(plain)
    # Learning as long as a plain uap does would take a minute.
    store = RunStore(folder / "runs")
    store.write(learnt.model_copy(update={"label": "uap"}))
    perturbation = store.perturbation_path(learnt, "uap")
    shutil.copy(perturbation, perturbation.with_name("FILE.safetensors"))
    (folder / "archive.jsonl").write_text(to_archive(store.read_all().records))
    (folder / "docs").symlink_to(ROOT / "docs")
    return World(folder)


@pytest.fixture
def at_home(world, monkeypatch) -> World:
    """Be in its folder, with the variables that a reader, a batch system or a CI sets."""
    _enter(world.folder, monkeypatch)
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "step.md")
    return world


@pytest.fixture(scope="session")
def names_of(world, tmp_path_factory) -> Callable[[Path], dict[str, object]]:
    """Run the Python blocks of a page in a copy of the folder, in order; returns what they leave behind."""

    @cache
    def run(page: Path) -> dict[str, object]:
        names: dict[str, object] = {}
        folder = shutil.copytree(world.folder, tmp_path_factory.mktemp("page") / "pages", symlinks=True)
        with pytest.MonkeyPatch.context() as patched:
            _enter(folder, patched)
            for block in blocks(page):
                if block.language == "python" and not block.reason and not block.file:
                    exec(compile(block.text, block.where, "exec"), names)
        return names

    return run


def _enter(folder: Path, monkeypatch) -> None:
    shrink(monkeypatch)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("VBENCH_CACHE", str(folder / "cache"))
