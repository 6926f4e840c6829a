"""The command of a row as text: what it says, what it leaves open, what a stranger cannot make it do."""

from __future__ import annotations

import shlex

import pytest
from page_records import IR2VIS, run

from vbench.records.command import command


def option(found, name):
    """The value of an option that stands once."""
    words = list(found.words)
    assert words.count(f"--{name}") == 1
    return words[words.index(f"--{name}") + 1]


def test_everything_that_makes_the_configuration_is_said():
    found = command([run("pgd", settings={"steps": 20}, label="pgd[steps=20]")])
    assert found.text == (
        f"vbench run --dataset synthetic --layout sysu --size 64x32 --protocol {IR2VIS} --victim agw "
        "--attack 'pgd[steps=20]' --eps 8/255 --norm linf --side query --quantize --seed 0 "
        "--precision float32 --no-channels-last"
    )
    assert found.notes == ()


def test_what_a_record_does_not_hold_is_named_by_its_hash():
    record = run("uap", synthetic=False)
    record.config["perturbation"] = "d" * 64
    found = command([record])
    assert option(found, "dataset") == "sysu" and option(found, "root") == "FOLDER"
    assert option(found, "weights") == "WEIGHTS" and option(found, "victim") == "agw"
    notes = "\n".join(found.notes)
    for hashed in ("00aa11bb22cc33dd", record.config["victim"]["weights"], "d" * 64):
        assert hashed in notes


def test_a_set_of_another_size_is_not_taken_for_the_built_in_one():
    record = run()
    record.config["victim"]["options"]["num_classes"] = 150
    assert option(command([record]), "root") == "FOLDER"


def test_a_label_that_the_settings_do_not_bear_out_is_not_used():
    lying = run("pgd", settings={"steps": 20, "step_size": None}, label="pgd[steps=10]")
    assert option(command([lying]), "attack") == "pgd[steps=20,step_size=none]"
    other = run("pgd", settings={"steps": 20}, label="uap")
    assert option(command([other]), "attack") == "pgd[steps=20]"


def test_a_label_of_another_version_is_not_used_since_its_defaults_may_have_been_others():
    older = run("pgd", settings={"steps": 10}, label="pgd")
    older.config["attack"]["version"] = 0
    assert option(command([older]), "attack") == "pgd[steps=10]"


def test_a_budget_keeps_all_its_digits():
    record = run()
    record.config["threat"] |= {"eps": "0.0123457", "eps_value": 0.0123456789}
    assert option(command([record]), "eps") == "0.0123456789"


def test_precision_and_surrogates_are_said():
    record = run(synthetic=False)
    record.config["victim"]["precision"] = {"dtype": "bfloat16", "channels_last": True}
    member = {"name": "ddag", **run(victim="ddag", synthetic=False).config["victim"]["options"]}
    record.config["surrogate"] = {"name": "ddag", "weights": "abc", "options": {"members": [member]}}
    found = command([record])
    assert option(found, "precision") == "bfloat16" and "--channels-last" in found.words
    assert option(found, "surrogate") == "ddag"
    assert option(found, "surrogate-weights") == "WEIGHTS_OF_DDAG"


def test_what_is_not_built_in_is_said():
    record = run()
    record.config["attack"]["name"] = record.label = "mine"
    record.config["dataset"]["name"] = "ours"
    record.config["victim"]["options"]["num_classes"] = 7
    notes = "\n".join(command([record]).notes)
    assert "attack mine is not known here" in notes and "dataset ours is not known here" in notes
    assert "victim" not in notes.replace("not known", "")


@pytest.mark.parametrize("text", ["$(touch x)", "`x`; rm -rf ~", "a' b\"", "--weights=x", "-x", "&& x", "*"])
def test_strangers_words_stay_one_word_of_the_shell(text):
    record = run()
    record.config["attack"] = {"name": text, "settings": {}}
    record.config["dataset"]["protocol"] = record.config["victim"]["name"] = text
    found = command([record])
    assert tuple(shlex.split(found.text)) == found.words
    assert [part for part in found.parts if text in shlex.split(part)[-1]]
    unquoted = [word for word in found.words if word.startswith("-") and word not in (text,)]
    assert all(word.startswith("--") and word.split("=")[0][2:] in KNOWN for word in unquoted), unquoted


KNOWN = {
    *("dataset", "layout", "size", "protocol", "victim", "attack", "eps", "norm", "side", "quantize"),
    *("seed", "precision", "no-channels-last"),
}


@pytest.mark.parametrize("text", ["a\nb", "a\x1b[2Jb", "a\u202eb"])
def test_control_characters_give_no_command(text):
    record = run()
    record.config["attack"]["name"] = record.label = text
    found = command([record])
    assert found.words == () and found.text == "" and "control characters" in found.notes[0]
