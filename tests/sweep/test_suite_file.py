"""Suites from their files: every complaint names the line, and a file can do nothing but name runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vbench.core.errors import BadInput
from vbench.sweep.check import check_suite
from vbench.sweep.read import MAX_BYTES, read_suite
from vbench.sweep.suite import AttackEntry, DatasetEntry, Exclusion, Resources, Suite, VictimEntry
from vbench.sweep.tasks import tasks_of

#: Three lines that are fine; what a case adds begins in line 4.
HEAD = "victims: [agw]\nattacks:\n  - pgd\n"


def write(tmp_path, text):
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ("  - fsm_uap\n", 4, "attacks.1: unknown attack 'fsm_uap'; did you mean 'fsam_uap'?"),
        ("  - pgd[steps=3\n", 4, "attacks.1: attack 'pgd[steps=3': the settings in [...] are not closed"),
        ("atacks: pgd\n", 4, "unknown key 'atacks'; did you mean 'attacks'?"),
        (
            "eps:\n  - 8/255\n  - 8\n",
            6,
            "eps.1: eps 8 is above 1, the whole pixel range; did you mean 8/",
        ),
        ("eps: [a]\n", 4, "eps.0: eps 'a' is not a number"),
        ("eps: []\n", 4, "eps: an empty list"),
        ("norm: linff\n", 4, "norm: unknown norm 'linff'; did you mean 'linf'?"),
        ("norm: l2\n", 4, "norm: norm l2 has no usual budget: give eps"),
        ("side: [query, galery]\n", 4, "side.1: unknown side 'galery'; did you mean 'gallery'?"),
        ("seeds:\n  - 0\n  - one\n", 6, "seeds.1: should be a valid integer, not 'one'"),
        ("seeds: [true]\n", 4, "seeds.0: should be a valid integer, not True"),
        ("seeds: -1\n", 4, "seeds: should be greater than or equal to 0, not -1"),
        ("quantize: 8\n", 4, "quantize: should be a valid boolean, not 8"),
        ("precision: bfloat\n", 4, "precision: unknown precision 'bfloat'; did you mean 'bfloat16'?"),
        ("device: cuda:1\n", 4, "device: should be 'auto', 'cpu' or 'cuda', not 'cuda:1'"),
        ("name: ../up\n", 4, "name: '../up' names a folder"),
        ("datasets: sysuu\n", 4, "datasets: unknown dataset 'sysuu'; did you mean 'sysu'?"),
        ("datasets:\n  - name: sysu\n", 5, "datasets.0: dataset 'sysu' needs a root"),
        ("datasets:\n  - root: x\n", 5, "datasets.0.root: root is for real data"),
        ("datasets:\n  - size: 64y32\n", 5, "datasets.0.size: size '64y32' is not HEIGHTxWIDTH"),
        (
            "datasets:\n  - layout: regbd\n",
            5,
            "datasets.0.layout: unknown dataset layout 'regbd'; did you mean",
        ),
        ("datasets:\n  - synthetic\n  - synthetic\n", 6, "datasets.1: a second dataset called 'synthetic'"),
        (
            "datasets:\n  - layout: regdb\n    protocols:\n      - sysu/all/single/ir2vis/seed10\n",
            7,
            "datasets.0.protocols.0: 'sysu/all/single/ir2vis/seed10' is no protocol of 'regdb'",
        ),
        ("datasets:\n  - protocols: [sysu/al]\n", 5, "datasets.0.protocols.0: unknown protocol 'sysu/al'"),
        (
            "surrogates:\n  - none\n  - [agw, adgw]\n",
            6,
            "surrogates.1.1: unknown victim 'adgw'; did you mean",
        ),
        ("surrogates: [[agw, all]]\n", 4, "surrogates.0: 'all' is no part of an ensemble"),
        ("exclude:\n  - victm: agw\n", 5, "exclude.0.victm: unknown key 'victm'; did you mean 'victim'?"),
        ("exclude:\n  - {}\n", 5, "exclude.0: an empty rule would exclude everything"),
        ("exclude:\n  - eps: x\n", 5, "exclude.0.eps: eps 'x' is not a number"),
        ("resources:\n  memory: lots\n", 5, "resources.memory: could not parse value and unit"),
        ("resources:\n  jobs: 0\n", 5, "resources.jobs: should be greater than or equal to 1, not 0"),
        ("resources:\n  gpus: 1.5\n", 5, "resources.gpus: more than one GPU must be a whole number"),
        ("resources:\n  cpus: yes\n", 5, "resources.cpus: a number is needed"),
        ("settings:\n  steps: {a: 1}\n", 4, "settings: a setting is a value or a list of values"),
        ("attacks: fgsm\n", 4, "'attacks' is given twice, first in line 2"),
        ("eps: !!python/object/apply:os.system ['x']\n", 4, "the YAML tag"),
        ("eps: &a [*a]\n", 4, "more values than a suite can hold"),
        ("eps: *a\n", 4, "not YAML: found undefined alias 'a'"),
        ("<<: {a: 1}\n", 4, "merge keys (<<) are not supported"),
        ("? [a, b]\n: 1\n", 4, "a key must be a word"),
        ("seeds: !!int abc\n", 4, "'abc' is no int"),
        ("eps: [a\n", 5, "not YAML"),
        ("---\nvictims: agw\n", 4, "not YAML: but found another document"),
        ("settings: [pgd[steps=3]]\n", 4, "a name with settings needs quotes"),
        ("name: \x01\n", 4, "not YAML: unacceptable character"),
    ],
)
def test_a_complaint_names_file_line_and_place(tmp_path, more, line, message):
    path = write(tmp_path, HEAD + more)
    with pytest.raises(BadInput) as refused:
        read_suite(path)
    (told,) = str(refused.value).splitlines()
    assert told.startswith(f"{path}:{line}: "), told
    assert message in told


@pytest.mark.parametrize(
    ("more", "line", "message"),
    [
        ("  - pgd[setps=3]\n", 4, "attacks.1: unknown parameter of pgd 'setps'; did you mean 'steps'?"),
        ("  - name: pgd\n    settings: {steps: many}\n", 4, "attacks.1: pgd: steps='many'"),
        ("  - uap[preset=pper]\n", 4, "attacks.1: "),
        ("  - ./none.py:Mine\n", 4, "attacks.1: attack: no such file: "),
        ("settings: {stpes: 3}\n", 3, "attacks.0: unknown parameter of pgd 'stpes'; did you mean 'steps'?"),
        (
            "eps: 0.0001\n",
            4,
            "eps 0.0001 is below one 8-bit level (1/255); raise it or set quantize: false",
        ),
        ("surrogates: ['agw[embeding=neck]']\n", 4, "surrogates.0: unknown option of victim agw 'embeding'"),
        ("datasets:\n  - name: sysu\n    root: nowhere\n", 6, "datasets.0.root: "),
    ],
)
def test_what_only_attacks_victims_and_files_know_names_the_line_too(tmp_path, more, line, message):
    path = write(tmp_path, HEAD + more)
    with pytest.raises(BadInput) as refused:
        check_suite(read_suite(path))
    (told,) = str(refused.value).splitlines()
    assert told.startswith(f"{path}:{line}: "), told
    assert message in told


def test_files_are_looked_for_only_where_they_must_be(tmp_path):
    (tmp_path / "data").mkdir()
    text = (
        "victims:\n  - agw\n  - {name: mmn, weights: w.t}\nattacks: pgd\ndatasets: {name: sysu, root: data}\n"
    )
    file = read_suite(write(tmp_path, text))
    check_suite(file, files_are_here=False)
    with pytest.raises(BadInput) as refused:
        check_suite(file)
    first, second = str(refused.value).splitlines()
    assert ":2: victims.0: victim 'agw' has no weights for sysu" in first
    assert f":3: victims.1: no checkpoint at {tmp_path.resolve() / 'w.t'}" in second


def test_every_complaint_is_told_and_a_flood_is_cut(tmp_path):
    path = write(tmp_path, "victims: agx\nattacks:\n" + "".join(f"  - pgd{n}\n" for n in range(20)))
    with pytest.raises(BadInput) as refused:
        read_suite(path)
    lines = str(refused.value).splitlines()
    assert len(lines) == 11 and lines[-1] == "... and 11 more"
    assert f"{path}:1: victims" in lines[0]
    with pytest.raises(BadInput, match="'victims' is missing"):
        read_suite(write(tmp_path, "attacks: pgd\n"))


def test_a_file_that_is_no_suite_is_refused_in_one_line(tmp_path):
    laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    laughs += "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    for text, message in [
        ("", "is empty"),
        ("- agw\n", "a suite is a mapping"),
        ("[" * 5000, "nested too deep"),
        ("# " + "x" * MAX_BYTES, "larger than 256 KiB"),
        (laughs, "more values than a suite can hold"),
    ]:
        with pytest.raises(BadInput, match=message) as refused:
            read_suite(write(tmp_path, text))
        assert len(str(refused.value).splitlines()) == 1
    (tmp_path / "suite.yaml").write_bytes(b"victims: agw\n\nname: \xff\n")
    with pytest.raises(BadInput, match=":3: not UTF-8 text"):
        read_suite(tmp_path / "suite.yaml")
    with pytest.raises(BadInput, match="No such file"):
        read_suite(tmp_path / "none.yaml")


def test_what_a_suite_says_is_read_as_it_is_meant(tmp_path):
    text = """\
name: night-1
victims: {name: agw, weights: a.t}
attacks:
  - name: fsam_uap
    settings: {stages: [stem, layer1], epochs: 3, momentum: 0.9, init: null}
eps: 0.03
seeds: 7
resources: {memory: 2 GiB, cpus: 0.5}
"""
    suite = read_suite(write(tmp_path, text)).suite
    assert suite.name == "night-1"
    assert suite.victims[0].weights == {"": "a.t"}
    assert suite.attacks[0].settings == {
        "stages": "stem,layer1",
        "epochs": "3",
        "momentum": "0.9",
        "init": "none",
    }
    assert suite.eps == ["0.03"] and suite.seeds == [7] and suite.side == []
    assert suite.resources.memory == 2 * 1024**3 and suite.resources.retries == 1
    assert [entry.called for entry in suite.datasets] == ["synthetic"]
    assert read_suite(write(tmp_path, HEAD)).suite.name == "suite", "the file's name"


def test_reading_a_suite_does_not_import_torch(tmp_path):
    path = write(tmp_path, HEAD)
    code = (
        "import sys; from pathlib import Path; from vbench.sweep.state import sweeps, show;"
        f"print(show(sweeps(Path({str(tmp_path)!r}), Path({str(path)!r}))[0])); print('torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "1 runs: 1 to do; time left unknown" in out and out.strip().endswith("False")


def test_the_page_shows_every_key_and_its_suites_can_be_read(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "sweeps.md").read_text()
    short, full = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert len(tasks_of(read_suite(write(tmp_path, short)))) == 36, "as the page says"
    file = read_suite(write(tmp_path, full))
    assert tasks_of(file)
    shown = file.located.lines
    entries = {"victims": VictimEntry, "attacks": AttackEntry, "datasets": DatasetEntry}
    assert set(Suite.model_fields) == {place[0] for place in shown if place}
    assert set(Resources.model_fields) == {
        place[1] for place in shown if place[:1] == ("resources",) and place[1:]
    }
    for key, model in entries.items():
        assert set(model.model_fields) == {place[2] for place in shown if place[:1] == (key,) and place[2:]}
    assert all(f"`{key}`" in page for key in Exclusion.model_fields)
