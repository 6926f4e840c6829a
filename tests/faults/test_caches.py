"""What is damaged in the cache is made again, and nobody has to know where the cache is."""

from __future__ import annotations

import json
import types

import pytest

from vbench.data import open_dataset
from vbench.data.synthetic.embedded import SyntheticSet
from vbench.run import builtin, prepare
from vbench.victims.build import read_victim
from vbench.victims.load import load_victim
from vbench.victims.precision import Precision
from vbench.victims.training import trainer
from vbench.victims.training.trainer import state_path

# Batches of the recipe show 16 identities.
SET = SyntheticSet(ids=24, test_ids=2, size=(32, 16))


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A function that makes thin weights, if need be in one epoch on one thread, and returns their path."""
    cache = tmp_path_factory.mktemp("cache")
    dataset = open_dataset(SET.layout, SET.write(cache, quiet=True))
    recipe_of = trainer.recipe_of
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "recipe_of", lambda victim, *rest: recipe_of(victim).stretched(1))
        patch.setattr(builtin, "_TRAINING_THREADS", 1)
        yield lambda: builtin.thin_weights(read_victim("agw[width=0.0625]"), dataset, cache, SET.size)


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
def test_damage_to_thin_weights_is_seen(make, damage, tmp_path, capsys):
    whole = make()
    assert builtin._intact(whole, quiet=False)
    damaged = tmp_path / whole.name
    damaged.write_bytes(damage(whole.read_bytes()))
    capsys.readouterr()
    assert not builtin._intact(damaged, quiet=False)
    (line,) = capsys.readouterr().err.splitlines()
    assert str(damaged) in line and line.endswith("training again")


def test_damaged_thin_weights_and_training_states_are_made_again(make, capsys):
    path = make()
    whole, before = path.read_bytes(), path.stat().st_mtime_ns
    assert make() == path and path.stat().st_mtime_ns == before, "what is whole is left alone"
    path.write_bytes(whole[:-100])
    state_path(path).write_bytes(whole[:1000])
    capsys.readouterr()
    make()
    said = capsys.readouterr().err
    assert "training again" in said and "starting over" in said
    assert path.read_bytes() == whole and not state_path(path).exists()
    load_victim("agw", path)


@pytest.mark.parametrize("content", ["", '{"generator": 1, "la', None])
def test_a_set_with_a_damaged_manifest_is_drawn_again(tmp_path, content, capsys):
    folder = SET.write(tmp_path, quiet=True)
    manifest = folder / "vbench-synthetic.json"
    pictures = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jpg")}
    whole = manifest.read_text()
    manifest.unlink() if content is None else manifest.write_text(content)
    next(folder.rglob("*.jpg")).unlink()
    assert SET.write(tmp_path) == folder
    assert "is damaged: writing the synthetic set again" in capsys.readouterr().err
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
    trial = types.SimpleNamespace(precision=options[1], seconds=1.0, rank1=50.0, clean={})
    monkeypatch.setattr(prepare, "measure", lambda bench, option: trial)
    monkeypatch.setattr(prepare, "choose", lambda trials: trials[-1])
    path = tmp_path / "choice.json"
    path.write_text(content)
    assert prepare._stored(path, options) is None
    bench = types.SimpleNamespace(victim=types.SimpleNamespace(name="agw"))
    assert prepare._measured(bench, options, path, quiet=True) == options[1]
    assert json.loads(path.read_text()) == options[1].card()
    assert prepare._stored(path, options) == options[1]
