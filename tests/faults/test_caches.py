"""What is damaged in the cache is made again, and nobody has to know where the cache is."""

from __future__ import annotations

import json
import types

import pytest

from vbench import precision_choice
from vbench.data import open_dataset
from vbench.defaults import SyntheticSet, thin_path, thin_weights
from vbench.precision import Precision
from vbench.train import trainer
from vbench.train.resume import state_path
from vbench.victim_spec import read_victim
from vbench.victims.load import load_victim

# Batches of the recipe show 16 identities.
SET = SyntheticSet(ids=24, test_ids=2, size=(32, 16))
AGW = "agw[width=0.0625]"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    SET.write(folder, quiet=True)
    return folder


@pytest.fixture
def weights(cache, monkeypatch):
    """Trains in one epoch, and returns the path of the weights with a function that makes them."""
    recipe_of = trainer.recipe_of
    monkeypatch.setattr(trainer, "recipe_of", lambda victim, *rest: recipe_of(victim).stretched(1))
    dataset = open_dataset(SET.layout, SET.folder(cache))

    def make():
        return thin_weights(read_victim(AGW), dataset, cache, SET.size)

    return thin_path(read_victim(AGW), dataset, cache, SET.size), make


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-100],
        lambda whole: b"",
        lambda whole: b"\x80\x04K\x01." * 99,
        lambda whole: whole[:-100] + bytes([whole[-100] ^ 64]) + whole[-99:],
    ],
    ids=["truncated", "empty", "pickle", "one bit"],
)
def test_damaged_thin_weights_are_trained_again(weights, damage, capsys):
    path, make = weights
    assert make() == path
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    capsys.readouterr()
    make()
    assert "training again" in capsys.readouterr().err
    assert path.read_bytes() == whole
    load_victim("agw", path)
    before = path.stat().st_mtime_ns
    make()
    assert path.stat().st_mtime_ns == before, "what is whole is left alone"


def test_a_damaged_training_state_is_started_over(weights, capsys):
    path, make = weights
    make()
    whole = path.read_bytes()
    path.unlink()
    state_path(path).write_bytes(whole[:1000])
    make()
    assert "starting over" in capsys.readouterr().err
    assert path.read_bytes() == whole and not state_path(path).exists()


@pytest.mark.parametrize("content", ["", '{"generator": 1, "la', None])
def test_a_set_with_a_damaged_manifest_is_drawn_again(tmp_path, content, capsys):
    folder = SET.write(tmp_path, quiet=True)
    manifest = folder / "vbench-synthetic.json"
    pictures = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")}
    whole = manifest.read_text()
    manifest.unlink() if content is None else manifest.write_text(content)
    next(folder.rglob("*.jpg")).unlink()
    assert SET.write(tmp_path) == folder
    assert "is damaged: drawing the synthetic set again" in capsys.readouterr().err
    assert manifest.read_text() == whole
    assert {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")} == pictures


def test_what_a_killed_process_left_of_a_set_is_removed(tmp_path):
    left = SET.folder(tmp_path).parent / f".{SET.folder(tmp_path).name}.k1ll3d"
    (left / "cam1").mkdir(parents=True)
    other = left.with_name(".another-set.k1ll3d")
    other.mkdir()
    folder = SET.write(tmp_path, quiet=True)
    assert open_dataset(SET.layout, folder).query
    assert not left.exists() and other.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"dtype": "float32", "of_tomorrow": 1}', '{"dtype": []}']
)
def test_a_damaged_choice_of_precision_is_made_again(tmp_path, content, monkeypatch):
    options = [Precision(), Precision("bfloat16")]
    trial = types.SimpleNamespace(precision=options[1], seconds=1.0, rank1=50.0)
    monkeypatch.setattr(precision_choice, "measure", lambda bench, option: trial)
    monkeypatch.setattr(precision_choice, "choose", lambda trials: trials[-1])
    path = tmp_path / "choice.json"
    path.write_text(content)
    assert precision_choice._kept(path, options) is None
    bench = types.SimpleNamespace(victim=types.SimpleNamespace(name="agw"))
    assert precision_choice._tried(bench, options, path, quiet=True) == options[1]
    assert json.loads(path.read_text()) == options[1].card()
    assert precision_choice._kept(path, options) == options[1]
