"""Checkpoints of strangers, by every door that takes one: nothing in them runs, one line names the file."""

from __future__ import annotations

import io
import pickle
import tarfile
import zipfile

import pytest
import torch
from faults.conftest import people, train_arguments

from vbench.core.errors import BadInput
from vbench.run.session import Session
from vbench.sweep.engine import Failed
from vbench.sweep.read import read_suite
from vbench.sweep.tasks import tasks_of
from vbench.sweep.worker import perform
from vbench.victims.checkpoint import read_checkpoint
from vbench.victims.training.trainer import state_path

__all__ = ["people"]


class Evil:
    """Unpickling this would create a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def zipped(marker):
    """As torch.save writes."""
    content = io.BytesIO()
    torch.save({"net": {"a": torch.ones(2)}, "extra": Evil(marker)}, content)
    return content.getvalue()


def legacy(marker):
    """As torch.save wrote until 1.6."""
    content = io.BytesIO()
    torch.save({"a": torch.ones(2), "b": Evil(marker)}, content, _use_new_zipfile_serialization=False)
    return content.getvalue()


def bare(marker):
    """A pickle and nothing else."""
    return pickle.dumps(Evil(marker))


def tarred(marker):
    """As torch.save wrote at the very first, under a name that passes for a pickle; it goes up, too."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("\x80x", "../up", "storages", "tensors", "pickle", "sys_info"):
            member = tarfile.TarInfo(name)
            member.size = len(bare(marker))
            archive.addfile(member, io.BytesIO(bare(marker)))
    return b"\x80" + content.getvalue()[1:]


FORMS = {"zip": zipped, "legacy": legacy, "bare": bare, "tar": tarred}


@pytest.fixture(params=FORMS)
def planted(request, tmp_path):
    """A file with code, and the mark that the code would leave."""
    mark = tmp_path / "ran"
    path = tmp_path / f"{request.param}.t"
    path.write_bytes(FORMS[request.param](mark))
    yield path
    assert not mark.exists()
    assert not (tmp_path.parent / "up").exists()


def where(quick):
    return ["--dataset", quick.layout, "--root", quick.root]


def test_the_payload_would_run_if_it_were_let(tmp_path):
    for number, form in enumerate((bare, zipped, legacy)):
        mark = tmp_path / f"mark{number}"
        content = form(mark)
        pickle.loads(content) if form is bare else torch.load(io.BytesIO(content), weights_only=False)
        assert mark.exists()


def test_run_audit_and_check(planted, quick, refused, tmp_path):
    runs = ["--runs", tmp_path / "runs"]
    run = ["run", "--victim", "agw", *where(quick), *runs, "--quiet"]
    assert str(planted) in refused(*run, "--attack", "noise", "--weights", planted)
    surrogate = ["--weights", quick.weights(), "--surrogate", "agw", "--surrogate-weights", planted]
    assert str(planted) in refused(*run, "--attack", "noise", *surrogate, "--ignore-gates")
    learnt = ["--weights", quick.weights(), "--perturbation", planted]
    assert str(planted) in refused(*run, "--attack", "uap", *learnt, "--ignore-gates")
    audit = ["audit", "--victim", "agw", *where(quick), *runs, "--quiet"]
    assert str(planted) in refused(*audit, "--weights", planted)
    assert not list(tmp_path.glob("runs/*.json"))


def test_convert_and_train(planted, people, refused, tmp_path):
    out = tmp_path / "out.safetensors"
    assert str(planted) in refused("victims", "convert", planted, "--victim", "agw", "--out", out)
    training = train_arguments(people, out, epochs=1)
    assert str(planted) in refused(*training, "--full", "--pretrained", planted)
    state_path(out).write_bytes(planted.read_bytes())
    assert "not the state of a training run" in refused(*training)
    assert not out.exists()


def test_a_worker_of_a_sweep(planted, quick, tmp_path):
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        f"victims: [{{name: agw, weights: {planted}}}, {{name: agw, weights: {quick.weights()}}}]\n"
        f"surrogates: {{name: agw, weights: {planted}}}\nattacks: noise\nignore_gates: true\n"
        f"datasets: {{name: {quick.layout}, root: {quick.root}}}\n"
    )
    tasks = tasks_of(read_suite(suite))
    for task in tasks:
        outcome = perform(task, Session(tmp_path / "runs", quiet=True))
        assert isinstance(outcome, Failed) and outcome.sound and str(planted) in outcome.reason
    assert len(tasks) == 2


def archive(name, content=b"x" * 2000, how=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as made:
        made.writestr("archive/data.pkl", pickle.dumps({"a": 1}))
        made.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize("name", ["../../up", "/up", "archive/../../up", "C:/up", "..\\up", "a\x00b"])
def test_an_archive_that_would_leave_its_folder_is_refused(tmp_path, name):
    path = tmp_path / "inside" / "w.pth"
    path.parent.mkdir()
    path.write_bytes(archive(name))
    with pytest.raises(BadInput, match=r"w\.pth: (refused, a member of it|damaged|written)"):
        read_checkpoint(path)
    assert [one.name for one in tmp_path.rglob("*")] == ["inside", "w.pth"]


def test_an_archive_that_swells_is_refused(tmp_path):
    (tmp_path / "w.pth").write_bytes(archive("archive/data/0", b"\0" * 10**7, zipfile.ZIP_DEFLATED))
    with pytest.raises(BadInput, match="compressed"):
        read_checkpoint(tmp_path / "w.pth")


def itself():
    found = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    "content",
    [
        {"w": torch.zeros(1).expand(10**12)},
        {"w": torch.zeros(10**9, device="meta")},
        {"w": torch.zeros(3, 3).to_sparse()},
        {"net": {"w": torch.ones(2)}, "beside": itself()},
        {"a\nb\x1b[2J" * 999: 1},
        [torch.ones(1)],
    ],
    ids=range(6),
)
def test_what_is_larger_than_its_file_is_refused(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    with pytest.raises(BadInput, match=r"w\.pth: ") as caught:
        read_checkpoint(path)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600
