"""A record answers for one configuration: what only lies where it would be is passed over, and stays."""

from __future__ import annotations

import json

import pytest
from fabricated import record

from vbench.attacks.perturbation import Perturbation
from vbench.core.errors import BadInput
from vbench.records.record import IDENTITY, Record, canonical, config_id
from vbench.records.store import RunStore, to_archive
from vbench.run.execute import fit_of
from vbench.run.session import keep, stored_perturbations


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path)


def rewritten(path, change):
    """Change what a file says, and nothing that goes with it."""
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def test_a_record_is_found_by_its_configuration_alone(store):
    one, other = record("pgd"), record("uap")
    store.write(one)
    store.write(other)
    assert store.find(one.config) == one and store.find(other.config) == other
    assert store.find({**one.config, "seed": 1}) is None


EDITS = {
    "a figure": lambda said: said["adversarial"][0].update(r1=0.5),
    "a figure of one query": lambda said: said["per_query"].pop("clean_rank"),
    "an unknown field": lambda said: said.update(mine=1),
    "an unknown field of a trial": lambda said: said["clean"][0].update(mine=1),
    "no digest": lambda said: said.update(digest=""),
    "the digest": lambda said: said.update(digest="0" * 64),
    "the configuration": lambda said: said["config"].update(seed=9),
    "the kind of configuration": lambda said: said["config"].pop("identity"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_record_is_passed_over_with_one_line(store, capsys, edit):
    made = record()
    path = store.write(made)
    rewritten(path, edit)
    assert store.find(made.config) is None and store.find(made.config) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"passed over {path}: ") and line.endswith("the run is done again")


def test_a_copy_under_another_id_is_neither_found_nor_overwritten(store, capsys):
    other, asked = record("uap"), record("pgd")
    taken = store.root / asked.file_name
    taken.write_bytes(store.write(other).read_bytes())
    assert store.find(asked.config) is None
    assert f"it holds the record {other.id}" in capsys.readouterr().err
    before = taken.read_bytes()
    path = store.write(asked)
    assert path != taken and taken.read_bytes() == before
    assert store.find(asked.config) == asked and store.path(asked) == path
    assert store.write(asked) == path, "again into its own file"


def test_what_is_broken_or_its_own_is_replaced(store):
    made = record()
    path = store.write(made)
    for text in ("", '{"torn', path.read_text()):
        path.write_text(text)
        assert store.write(made) == path and store.find(made.config) == made


def test_a_folder_in_the_place_of_a_record_stays(store):
    made = record()
    (store.root / made.file_name).mkdir(parents=True)
    assert store.find(made.config) is None
    assert store.write(made).is_file() and (store.root / made.file_name).is_dir()


def test_the_digest_does_not_depend_on_how_a_record_is_written(store):
    made = record(cost={"attack_seconds": 2.0}, warnings=["é"])
    said = json.loads(made.model_dump_json())
    said["cost"]["attack_seconds"] = 2
    shuffled = json.dumps(dict(reversed(said.items())), indent=7, ensure_ascii=True)
    assert Record.model_validate_json(shuffled).fault() is None
    assert canonical({"b": [1.0, True], "a": None}) == canonical({"a": None, "b": (1, True)})
    assert canonical(True) != canonical(1) and canonical("1") != canonical(1)


def test_an_archive_line_is_sealed_again_unless_its_record_was_changed(tmp_path):
    honest, edited = record("pgd"), record("uap")
    edited.adversarial[0].r1 = 0.125
    (tmp_path / "a.jsonl").write_text(to_archive([honest, edited]))
    contents = RunStore(tmp_path / "a.jsonl").read_all()
    faults = {one.label: one.fault() for one in contents.records}
    assert faults["pgd"] is None and "changed" in faults["uap"]
    assert len(contents.doubted) == 1


def test_older_records_are_read_and_answer_nothing(store):
    made = record()
    del made.config["identity"]
    made.id, made.digest = config_id(made.config), ""
    store.root.joinpath(made.file_name).write_text(made.model_dump_json())
    contents = store.read_all()
    assert contents.records == [made] and made.older and made.fault() is None
    assert [note for note in contents.notes if note.startswith("Older identity: all runs")]
    assert store.find({"identity": IDENTITY, **made.config}) is None


def test_a_copied_file_counts_once(store):
    path = store.write(record())
    path.with_name(f"copy-{path.name}").write_bytes(path.read_bytes())
    contents = store.read_all()
    assert len(contents.records) == 1 and "the same record as" in contents.broken[0][1]


def learnt_for(made, **facts):
    """What a fit of a record's configuration would have learnt."""
    import torch

    return Perturbation(torch.zeros(3, 4, 2)).with_provenance(
        attack=made.config["attack"]["name"], fit=fit_of(made.config), **facts
    )


@pytest.fixture
def universal():
    made = record("uap")
    made.config["dataset"]["training"] = "t"
    made.id = config_id(made.config)
    made.seal()
    return made


def test_a_perturbation_of_another_fit_is_passed_over(store, universal):
    keep(store, universal, [learnt_for(universal)])
    (found,) = stored_perturbations(store, universal)
    assert found.provenance["fit"] == fit_of(universal.config)
    (path,) = store.perturbation_paths(universal)
    learnt_for(universal).with_provenance(fit="another").save(path)
    told = []
    assert stored_perturbations(store, universal, told.append) == ()
    assert "another run" in told[0]


def test_a_header_that_was_edited_is_refused(tmp_path, universal):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "uap.safetensors"
    learnt_for(universal).save(path)
    with safe_open(path, framework="pt") as file:
        header, tensors = dict(file.metadata()), {"delta": file.get_tensor("delta")}
    header["provenance"] = json.dumps({"attack": "cmps", "settings": {}})
    save_file(tensors, path, header)
    with pytest.raises(BadInput, match="does not match its header"):
        Perturbation.load(path)
