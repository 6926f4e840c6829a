"""Kept files from strangers: what is broken or lies is refused in one line, and nothing else is read."""

from __future__ import annotations

import json
import pickle
import shlex

import numpy as np
import pytest
from kept_runs import kept_run, tiny_bench, tiny_dataset
from safetensors import safe_open
from safetensors.numpy import save

from vbench.core.errors import BadInput
from vbench.core.types import Side
from vbench.records.files import (
    KeptEmbeddings,
    KeptImages,
    kept_file,
    missing,
    read_embeddings,
    read_images,
    read_keep,
)
from vbench.records.record import Record


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    return folder, kept_run(tiny_bench(tiny_dataset(folder / "data")), "noise", folder)


@pytest.fixture
def copy(run, tmp_path):
    """A folder of its own with the run's kept files."""
    folder, record = run
    for what in ("embeddings", "images"):
        path = kept_file(tmp_path, record.id, what)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kept_file(folder, record.id, what).read_bytes())
    return tmp_path, record


def rewrite(path, change):
    """Rewrite a kept file with header and arrays changed by ``change``."""
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["vbench"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, arrays)
    path.write_bytes(save(arrays, {"vbench": json.dumps(header)}))


def test_files_are_small_and_made_alike(copy, tmp_path):
    runs, record = copy
    for what, kind, read in (
        ("embeddings", KeptEmbeddings, read_embeddings),
        ("images", KeptImages, read_images),
    ):
        path = kept_file(runs, record.id, what)
        before = path.read_bytes()
        read(runs, record).write(tmp_path / "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == before
        assert isinstance(kind.read(path), kind)
    assert read_embeddings(runs, record).clean[Side.QUERY].dtype == np.float32
    with safe_open(kept_file(runs, record.id, "embeddings"), framework="np") as file:
        assert file.get_tensor("query.clean").dtype == np.float16


def test_embeddings_too_large_for_half_precision_stay_as_they_are(copy):
    runs, record = copy
    kept = read_embeddings(runs, record)
    kept.clean[Side.QUERY][0, 0] = 1e30
    kept.write(runs / "large.safetensors")
    assert KeptEmbeddings.read(runs / "large.safetensors").clean[Side.QUERY][0, 0] == np.float32(1e30)


IMAGES = [
    (lambda h, a: h.update(format="vbench-kept-images/9"), "its format is 'vbench-kept-images/9'"),
    (lambda h, a: h.update(more=1), "more"),
    (lambda h, a: h.update(chosen=[]), "8 queries"),
    (lambda h, a: a.pop("query.clean"), "holds no 'query.clean'"),
    (lambda h, a: a.update({"before": a["before"] + 10_000}), "points outside"),
    (lambda h, a: a.update({"before": -a["before"] - 1}), "points outside"),
    (lambda h, a: a.update({"before": a["before"].astype(np.int64)}), "int64"),
    (lambda h, a: a.update({"query.clean": a["query.clean"].astype(np.float32)}), "float32"),
    (lambda h, a: a.update({"gallery.clean": a["gallery.clean"][:, :4]}), "of shape"),
    (lambda h, a: a.update({"match": a["match"][:1]}), "of shape"),
    (lambda h, a: a.update({"query.ids": a["query.ids"][None]}), "of shape"),
]
EMBEDDINGS = [
    (lambda h, a: h.update(similarity="telepathy"), "similarity is 'telepathy'"),
    (lambda h, a: h.update(trials=[]), "no trial"),
    (lambda h, a: h.update(trials=["a", *h["trials"]]), "holds no 'trial.10.query'"),
    (lambda h, a: a.update({"query.clean": a["query.clean"] * np.nan}), "not finite"),
    (lambda h, a: a.update({"query.clean": a["query.clean"][:, :3]}), "of shape"),
    (lambda h, a: a.update({"trial.0.gallery": a["trial.0.gallery"] + 10_000}), "points outside"),
    (lambda h, a: h["modality"].pop("query"), "modality of both sides"),
]


@pytest.mark.parametrize(
    ("what", "change", "reason"),
    [("images", *one) for one in IMAGES] + [("embeddings", *one) for one in EMBEDDINGS],
)
def test_a_file_that_lies_is_refused_with_the_reason(copy, what, change, reason):
    runs, record = copy
    path = kept_file(runs, record.id, what)
    rewrite(path, change)
    with pytest.raises(BadInput, match="is not what vbench run --keep wrote") as refused:
        (read_images if what == "images" else read_embeddings)(runs, record)
    assert reason in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 64,
        b"\x00\x00\x00\x00\x00\x00\x00\x7f{}",
        pickle.dumps({"query.clean": 1}),
        save({"x": np.zeros(1)}),
        save({"x": np.zeros(1)}, {"vbench": "[1]"}),
        save({"x": np.zeros(1)}, {"vbench": "{"}),
    ],
)
@pytest.mark.parametrize("read", [read_images, read_embeddings])
def test_a_file_that_is_none_is_refused(copy, content, read):
    runs, record = copy
    for what in ("images", "embeddings"):
        kept_file(runs, record.id, what).write_bytes(content)
    with pytest.raises(BadInput, match="is not what vbench run --keep wrote") as refused:
        read(runs, record)
    assert "\n" not in str(refused.value)
    assert missing(runs, record, ["images", "embeddings"]) == ["embeddings", "images"]


def test_half_a_file_is_refused(copy):
    runs, record = copy
    path = kept_file(runs, record.id, "images")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadInput, match="is not what vbench run --keep wrote"):
        read_images(runs, record)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "", "a/b", "/abs", "a\x00b", "a" * 200])
def test_an_id_that_is_a_path_leads_nowhere(run, name):
    folder, record = run
    stranger = record.model_copy(update={"id": name})
    with pytest.raises(BadInput, match="not letters and digits"):
        read_images(folder, stranger)


def test_what_was_not_kept_names_the_command_that_keeps_it(run, tmp_path):
    _, record = run
    with pytest.raises(BadInput, match="kept no images") as refused:
        read_images(tmp_path, record)
    hint = str(refused.value)
    assert "vbench run --dataset sysu --root FOLDER " in hint and " --attack noise --eps 16/255 " in hint
    assert f"--keep images --runs {tmp_path}; FOLDER: " in hint


def test_a_hostile_label_cannot_leave_its_quotes(run, tmp_path):
    _, record = run
    stranger = Record.model_validate({**record.model_dump(), "label": "noise; rm -rf ~"})
    with pytest.raises(BadInput, match="kept no images") as refused:
        read_images(tmp_path / "a folder; of mine", stranger)
    words = shlex.split(str(refused.value).split("this does: ")[1].split("; FOLDER")[0])
    assert "noise; rm -rf ~" not in words, "a label that the settings do not bear out"
    assert words[-1] == str(tmp_path / "a folder; of mine")


def test_files_of_another_run_of_the_same_configuration_are_refused(copy):
    runs, record = copy
    later = record.model_copy(update={"created": "2031-01-01T00:00:00+00:00"})
    with pytest.raises(BadInput, match="is of another run than its record"):
        read_embeddings(runs, later)


@pytest.mark.parametrize(
    ("text", "message"),
    [("imges", "did you mean 'images'"), ("", "names nothing"), (" , ", "names nothing")],
)
def test_what_cannot_be_kept_is_refused(text, message):
    with pytest.raises(BadInput, match=message):
        read_keep(text)


def test_what_can_be_kept_is_read():
    assert read_keep("embeddings, images") == {"embeddings", "images"}
