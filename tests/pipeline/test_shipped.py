"""The weights that come with vbench: up to date, whole, and those of a victim that recognises people."""

from __future__ import annotations

import pytest
from opening import opener

from vbench.run import builtin
from vbench.run.builtin import thin_path, thin_weights
from vbench.victims.build import read_victim
from vbench.victims.checkpoint import read_checkpoint, sha256_of
from vbench.victims.training import trainer

SIZE = (64, 32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """The default set, as every first run draws it."""
    return opener().open(tmp_path_factory.mktemp("default"), quiet=True)


@pytest.mark.slow
def test_the_default_victim_needs_no_training(dataset, tmp_path, monkeypatch):
    """Fails when recipe, network or drawn people changed: make thin."""

    def refused(*_, **__):
        raise AssertionError("trained")

    monkeypatch.setattr(trainer, "train_victim", refused)
    monkeypatch.setattr("vbench.victims.training.train_victim", refused)
    path = thin_weights(read_victim("agw"), dataset, tmp_path, SIZE, quiet=True)
    assert path.parent == builtin._SHIPPED and not any(tmp_path.iterdir())
    found = read_checkpoint(path)
    assert found.metadata["sha256"] == sha256_of(found.state)
    assert [one.name for one in builtin._SHIPPED.iterdir()] == [path.name]


@pytest.mark.parametrize("other", [{"victim": "agw[width=0.125]"}, {"size": (32, 16)}, {"seed": 1}])
def test_any_other_network_is_not_it(dataset, tmp_path, other):
    spec = read_victim(other.get("victim", "agw"))
    path = thin_path(spec, dataset, tmp_path, other.get("size", SIZE), other.get("seed", 0))
    assert path.parent == tmp_path / "victims"


def test_what_only_ranks_otherwise_is(dataset, tmp_path):
    assert thin_path(read_victim("agw[embedding=pooled]"), dataset, tmp_path, SIZE).parent == builtin._SHIPPED


def test_it_recognises_people_it_never_saw(dataset, tmp_path):
    bench = opener().bench(dataset, tmp_path, quiet=True)
    ranks = [trial.first_match_rank for trial in bench.clean_trials]
    right = sum(int((rank == 1).sum()) for rank in ranks) / sum(len(rank) for rank in ranks)
    chance = 1 / dataset.trials[0].gallery.__len__()
    assert right > 20 * chance
