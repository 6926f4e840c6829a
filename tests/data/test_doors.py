"""What a reader returns, and an open data set that a caller hands over, is checked once, at the door."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pytest
import quick as quickly
import torch
from quick import Bare

from vbench.api import evaluate
from vbench.core.errors import BadInput, VbenchError
from vbench.core.types import Modality
from vbench.data import Dataset, DatasetReader, Sample, Trial, open_dataset
from vbench.data.images import Images
from vbench.data.open import read_with
from vbench.run.prepare import open_named

IR = Modality.INFRARED


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A drawn set with one trial, as an open one."""
    made = quickly.make(tmp_path_factory.mktemp("doors"))
    found = open_dataset("sysu", made.root)
    return dataclasses.replace(found, trials=found.trials[:1])


def mine(dataset: Dataset) -> DatasetReader:
    class Mine(DatasetReader):
        name, expected, protocols = "mine", "nothing", ("mine/one",)

        def read(self, root, protocol):
            return dataclasses.replace(dataset, name="mine", protocol=protocol)

    return Mine()


def first(dataset, part="query", **changes):
    """The data set with other values in the first sample of a list."""
    head, *others = getattr(dataset, part)
    changed = dataclasses.replace(head, **changes)
    return dataclasses.replace(dataset, **{part: (changed, *others)})


def every(dataset, change):
    """The data set with each sample of all four lists changed."""
    parts = ("query", "gallery", "train_visible", "train_infrared")
    lists = {part: tuple(change(sample) for sample in getattr(dataset, part)) for part in parts}
    return dataclasses.replace(dataset, **lists)


def trial(dataset, **changes):
    return dataclasses.replace(dataset, trials=(dataclasses.replace(dataset.trials[0], **changes),))


BAD = {
    "modality-none": (lambda d: first(d, modality=None), "modality of"),
    "modality-word": (lambda d: first(d, modality="thermal"), "'thermal'; give Modality.VISIBLE"),
    "modality-case": (lambda d: first(d, modality="Infrared"), "give Modality.VISIBLE"),
    "modality-mixed": (lambda d: first(d, modality="visible"), "query mixes modalities"),
    "pid-text": (lambda d: first(d, pid="7"), "is a str; give a whole number"),
    "pid-float": (lambda d: first(d, pid=7.0), "is a float; give a whole number"),
    "pid-none": (lambda d: first(d, pid=None), "is a NoneType; give a whole number"),
    "pid-true": (lambda d: first(d, pid=True), "is a bool; give a whole number"),
    "pid-tensor": (lambda d: first(d, pid=torch.tensor(7)), "is a Tensor; give a whole number"),
    "pid-large": (lambda d: first(d, pid=2**63), "does not fit 64 bits"),
    "cam-text": (lambda d: first(d, "gallery", cam="c1"), "cam of"),
    "cam-nan": (lambda d: first(d, "gallery", cam=float("nan")), "is a float; give a whole number"),
    "path-pathlib": (lambda d: first(d, path=Path("a.jpg")), "give a text"),
    "path-empty": (lambda d: first(d, path=""), "no path inside the folder"),
    "path-outside": (lambda d: first(d, path="../a.jpg"), "no path inside the folder"),
    "path-surrogate": (lambda d: first(d, path="caf\udce9.jpg"), "is not UTF-8"),
    "path-null": (lambda d: first(d, path="a\0b.jpg"), "no path inside the folder"),
    "twice": (lambda d: first(d, path=d.query[1].path), "twice"),
    "twice-by-dot": (lambda d: first(d, path="./" + d.query[1].path), "twice"),
    "tuple-for-sample": (
        lambda d: dataclasses.replace(d, query=(("a.jpg", 1, 1, IR), *d.query)),
        "query: holds a tuple; give vbench.data.Sample",
    ),
    "list-is-none": (lambda d: dataclasses.replace(d, query=None), "query is a NoneType; give a tuple"),
    "list-is-generator": (
        lambda d: dataclasses.replace(d, gallery=(sample for sample in d.gallery)),
        "gallery is a generator; give a tuple",
    ),
    "trials-none": (lambda d: dataclasses.replace(d, trials=None), "trials is a NoneType"),
    "trial-is-tuple": (lambda d: dataclasses.replace(d, trials=(("t", [0], [0]),)), "trials hold a tuple"),
    "trial-name": (lambda d: trial(d, name=1), "a trial's name is a int; give a text"),
    "trial-beyond": (lambda d: trial(d, query=np.array([0, len(d.query)])), "query points beyond"),
    "trial-negative": (lambda d: trial(d, gallery=np.array([0, 1, -1])), "gallery points beyond"),
    "trial-empty": (lambda d: trial(d, gallery=np.array([], dtype=int)), "gallery is empty or no list"),
    "trial-floats": (lambda d: trial(d, query=np.array([0.0, 1.0])), "query is empty or no list"),
    "trial-mask": (lambda d: trial(d, query=np.ones(len(d.query), bool)), "query is empty or no list"),
    "trial-none": (lambda d: trial(d, query=None), "query is empty or no list"),
    "trial-ragged": (lambda d: trial(d, query=[[0], [1, 2]]), "query is empty or no list"),
    "trial-text": (lambda d: trial(d, query="all"), "query is empty or no list"),
    "trial-twice": (lambda d: trial(d, gallery=np.array([0, 1, 1])), "gallery names a position twice"),
    "root-text": (lambda d: dataclasses.replace(d, root=str(d.root)), "root is a str; give a pathlib.Path"),
    "metric-none": (lambda d: dataclasses.replace(d, metric=None), "metric is a NoneType; give a text"),
    "synthetic-one": (lambda d: dataclasses.replace(d, synthetic=1), "synthetic is a int"),
    "split-number": (lambda d: dataclasses.replace(d, split=3), "split is a int"),
    "notes-text": (lambda d: dataclasses.replace(d, notes="none"), "notes is a str; give a tuple"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_reader_is_told_what_is_wrong_and_where(real, name):
    spoil, said = BAD[name]
    reader = mine(spoil(real))
    with pytest.raises(BadInput) as caught:
        read_with(reader, real.root)
    line, at = str(caught.value), inspect.getsourcelines(type(reader).read)[1]
    assert "dataset 'mine'" in line and said in line and f"{__file__}, line {at}" in line
    assert line.isprintable()


@pytest.fixture
def idle(forbid):
    """Fails as soon as an image is wanted."""
    forbid((Images, "load"), (Images, "hashes"))


@pytest.mark.parametrize("name", BAD)
def test_a_caller_is_told_what_is_wrong(real, name, idle, tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path))
    spoil, said = BAD[name]
    with pytest.raises(BadInput) as caught:
        evaluate(Bare(), "noise", spoil(real), ignore_gates=True)
    assert said in str(caught.value) and str(caught.value).isprintable()


def plain(sample):
    return dataclasses.replace(sample, modality=str(sample.modality.value))


def numpy(sample):
    return dataclasses.replace(sample, pid=np.int32(sample.pid), cam=np.uint8(sample.cam))


SAME = {
    "text": lambda d: every(d, plain),
    "numpy": lambda d: every(d, numpy),
    "lists": lambda d: dataclasses.replace(d, query=list(d.query), gallery=list(d.gallery)),
    "list-positions": lambda d: trial(
        d, query=d.trials[0].query.tolist(), gallery=d.trials[0].gallery.tolist()
    ),
    "small-positions": lambda d: trial(
        d, query=d.trials[0].query.astype(np.uint16), gallery=d.trials[0].gallery.astype(">i8")
    ),
}
#: Other numbers for the same people: in the same order, and none in training and in test.
RENUMBERED = {
    "dates": lambda pid: 20240131123456 + pid,
    "negative": lambda pid: pid - 2**62,
}


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    def run(dataset):
        patch = pytest.MonkeyPatch()
        with patch.context() as patched:
            patched.setenv("VBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
            record = evaluate(Bare(), "noise", dataset, ignore_gates=True).record
        return record

    return run


@pytest.fixture(scope="module")
def before(real, figures):
    return figures(real)


@pytest.mark.parametrize("name", SAME)
def test_the_same_facts_otherwise_written_are_the_same_run(real, before, figures, name):
    found = figures(SAME[name](real))
    assert (found.id, found.clean, found.adversarial) == (before.id, before.clean, before.adversarial)


@pytest.mark.parametrize("name", RENUMBERED)
def test_other_numbers_for_the_same_people_give_the_same_figures(real, before, figures, name):
    def other(sample):
        return dataclasses.replace(sample, pid=RENUMBERED[name](sample.pid))

    found = figures(every(real, other))
    assert (found.clean, found.adversarial) == (before.clean, before.adversarial)
    assert found.id != before.id


def test_an_identity_of_minus_one_is_an_identity(real, before, figures):
    chosen = real.query[0].pid

    def other(sample):
        return dataclasses.replace(sample, pid=-1) if sample.pid == chosen else sample

    found = figures(every(real, other))
    assert (found.clean, found.adversarial) == (before.clean, before.adversarial)


@pytest.mark.parametrize("name", ["text", "numpy", "lists"])
def test_a_reader_may_write_facts_otherwise(real, name):
    found, wanted = (read_with(mine(dataset), real.root) for dataset in (SAME[name](real), real))
    assert (found.query, found.gallery, found.train_labels) == (
        wanted.query,
        wanted.gallery,
        wanted.train_labels,
    )
    assert all(sample.modality is IR and type(sample.pid) is int for sample in found.query)


HEAD = """\
from vbench.data import DatasetReader

class Mine(DatasetReader):
    name, protocols, expected = "mine", ("mine/one",), "a set"
"""


def reading(body):
    return f"    def read(self, root, protocol):\n        {body}\n"


READERS = {
    "raises": (reading("return {}[protocol]"), 6, "KeyError: 'mine/one'"),
    "raises-lines": (reading("raise ValueError('a\\nb')"), 6, "ValueError: a b"),
    "exits": (reading("raise SystemExit(0)"), 6, "SystemExit"),
    "none": (reading("pass"), 5, "returns a NoneType, not a Dataset"),
    "tuple": (reading("return (), ()"), 5, "returns a tuple"),
    "constructor": ("    def __init__(self):\n        1 / 0\n" + reading("pass"), 6, "ZeroDivisionError"),
    "arguments": ("    def __init__(self, folder):\n        pass\n" + reading("pass"), 3, "folder"),
    "signature": ("    def read(self):\n        pass\n", 3, "read() takes 1 positional argument"),
    "protocols": ("    protocols = 5\n" + reading("pass"), 6, "'protocols' must be a tuple of ids"),
    "expected": ("    expected = None\n" + reading("pass"), 6, "'expected' must be a text"),
    "abstract": ("    pass\n", 3, "lacks read"),
    "static": ("    read = 5\n", 3, "mine"),
    "builtin": ("    read = print\n", 3, "returns a NoneType"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_that_fails_is_one_line(real, tmp_path, name):
    body, line, said = READERS[name]
    path = tmp_path / "mine.py"
    path.write_text(HEAD + body)
    with pytest.raises(VbenchError) as caught:
        open_named(f"{path}:Mine", real.root)
    message = str(caught.value)
    assert message.isprintable() and said in message and "mine.py" in message
    assert f"{path}, line {line}" in message


@pytest.mark.parametrize("name", ["raises", "none", "constructor"])
def test_evaluate_says_it_in_one_line_too(real, idle, tmp_path, monkeypatch, name):
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path / "cache"))
    body, line, said = READERS[name]
    path = tmp_path / "mine.py"
    path.write_text(HEAD + body)
    with pytest.raises(VbenchError) as caught:
        evaluate(Bare(), "noise", f"{path}:Mine", root=real.root, ignore_gates=True)
    assert said in str(caught.value) and f"{path}, line {line}" in str(caught.value)


@pytest.mark.parametrize("given", [Dataset, 5, object(), {"root": "."}, Sample("a", 1, 1, IR), Trial])
def test_what_is_no_dataset_is_refused(given, idle, tmp_path, monkeypatch):
    monkeypatch.setenv("VBENCH_CACHE", str(tmp_path))
    with pytest.raises(BadInput):
        evaluate(Bare(), "noise", given, ignore_gates=True)
