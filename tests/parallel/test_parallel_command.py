"""The command line on several processes: one voice, one record, one end."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import quick
from launch import HERE, free_port, several

from vbench.attacks.perturbation import Perturbation
from vbench.cli import main
from vbench.records.store import RunStore

UNLIKE = HERE / "unlike.py"
GOOD = "--attack uap[evaluations=48,batch=12] --attack noise"

COMMANDS = {
    "good": f"run RUN {GOOD}",
    "again": f"run RUN {GOOD}",
    "quiet": f"run RUN {GOOD} --quiet --format json",
    "typo": "run RUN --attack pdg",
    "usage": "run RUN",
    "help": "run --help",
    "report": "report --runs RUNS",
    "grid": "data protocols",
    "one": f"run RUN --seed 7 --attack noise --attack {UNLIKE}:Fails",
    "bug": f"run RUN --attack {UNLIKE}:Fails[how=bug]",
    "unlike": f"run RUN --attack {UNLIKE}:Learns",
    "death": f"run RUN --seed 8 --attack noise --attack {UNLIKE}:Fails[how=death]",
}


class Setting:
    """A small data set, an untrained victim for it, and folders for records."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.quick = folder, quick.make(folder / "data")

    def words(self, line: str, runs: str) -> list[str]:
        """The words of a command."""
        runs = str(self.folder / runs)
        given = " ".join(one for one in self.quick.arguments(Path(runs)) if one != "--quiet")
        return line.replace("RUNS", runs).replace("RUN", f"{given} --device cpu").split()

    def said(self, name: str, rank: int) -> tuple[int | None, str, str]:
        """Exit code (None if it never came to that), standard output and error of a process."""
        stem = f"{name}-{rank}"
        code = self.folder / f"{stem}.code"
        texts = [(self.folder / f"{stem}.{kind}").read_text() for kind in ("out", "err")]
        return (int(code.read_text()) if code.exists() else None, *texts)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    return Setting(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="module")
def done(setting):
    lines = [
        " ".join([name, str(free_port()), *setting.words(line, "runs-RANK")])
        for name, line in COMMANDS.items()
    ]
    listed = setting.folder / "commands.txt"
    listed.write_text("\n".join(lines))
    setting.ended = several(2, [HERE / "commands.py", listed], VBENCH_CACHE=str(setting.folder / "cache"))
    return setting


@pytest.fixture(scope="module")
def alone(setting):
    """Records of the same runs on one process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["vbench", *setting.words(f"run RUN {GOOD}", "runs-alone")])
        patch.setenv("VBENCH_CACHE", str(setting.folder / "cache"))
        with pytest.raises(SystemExit) as end:
            main()
    assert not end.value.code
    return setting.folder / "runs-alone"


def check_same_runs(found: Path, alone: Path) -> None:
    """Records and perturbations of the same runs, which in float32 may differ in the odd rounding."""
    expected = {record.id: record for record in RunStore(alone).read_all().records}
    records = {record.id: record for record in RunStore(found).read_all().records}
    assert set(expected) <= set(records) and len(expected) == 2
    for name, one in expected.items():
        several_ = records[name]
        assert (one.environment["processes"], several_.environment["processes"]) == (1, 2)
        assert several_.cost.get("fit_evaluations") == one.cost.get("fit_evaluations")
        assert several_.mean("clean", "map") == pytest.approx(one.mean("clean", "map"), abs=0.02)
        assert several_.mean("adversarial", "map") == pytest.approx(one.mean("adversarial", "map"), abs=0.02)
    (file,) = (alone / "perturbations").iterdir()
    deltas = [Perturbation.load(folder / "perturbations" / file.name).delta for folder in (found, alone)]
    assert (deltas[0] == deltas[1]).float().mean() > 0.99


def test_one_process_writes_the_records_of_all(done, alone):
    assert done.said("good", 0)[0] == done.said("good", 1)[0] == 0
    check_same_runs(done.folder / "runs-0", alone)
    assert not (done.folder / "runs-1").exists()


def test_process_0_speaks_for_all(done):
    (_, table, progress), silent = done.said("good", 0), done.said("good", 1)
    assert table.count("uap[evaluations=48,batch=12]") == 1 and "largest change 8 levels" in progress
    assert silent == (0, "", "")


def test_records_are_found_by_all(done):
    code, table, progress = done.said("again", 0)
    assert code == 0 and progress.count("found ") == 2 and "noise" in table
    assert done.said("again", 1) == (0, "", "")
    code, table, progress = done.said("quiet", 0)
    assert (code, progress) == (0, "") and table.startswith("[")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("typo", "vbench: unknown attack 'pdg'; did you mean 'pgd'?"),
        ("report", "vbench: vbench report takes one process; start it without torchrun"),
        ("grid", "vbench: vbench data protocols takes one process; start it without torchrun"),
    ],
)
def test_what_all_refuse_is_said_once(done, name, expected):
    code, table, error = done.said(name, 0)
    assert (code, table) == (2, "") and error.startswith(expected) and error.count("\n") == 1
    assert done.said(name, 1) == (2, "", "")


def test_wrong_usage_and_help_are_printed_once(done):
    code, _, error = done.said("usage", 0)
    assert code == 2 and error.count("Missing option '--attack'") == 1
    assert done.said("usage", 1) == (2, "", "")
    code, text, error = done.said("help", 0)
    assert (code, error) == (0, "") and "--precision" in text
    assert done.said("help", 1) == (0, "", "")


def test_a_failure_of_one_ends_all_and_is_said_by_that_one(done):
    code, table, error = done.said("one", 0)
    assert (code, table) == (1, "") and "vbench:" not in error and "Traceback" not in error
    code, table, error = done.said("one", 1)
    assert (code, table, error) == (1, "", "process 1: vbench: its own disk is full\n")
    kept = [record.label for record in RunStore(done.folder / "runs-0").read_all().records]
    assert kept.count("noise") == 3 and "fails" not in kept


def test_a_bug_of_one_is_one_line(done):
    assert "bug" not in done.said("bug", 0)[2]
    code, _, error = done.said("bug", 1)
    assert code == 1
    assert re.match(r"process 1: vbench: attack 'fails': .*unlike\.py, line \d+: KeyError: 'a bug'", error)
    assert len(error.splitlines()) == 1


def test_what_differs_between_processes_is_refused(done):
    code, _, error = done.said("unlike", 0)
    expected = "vbench: what 'learns' learnt: processes 0 and 1 of 2 do not hold the same\n"
    assert (code, error.splitlines(True)[-1]) == (1, expected)
    assert done.said("unlike", 1) == (1, "", "")


def test_the_death_of_one_ends_the_others_in_one_line(done):
    assert done.said("death", 1)[0] is None and done.ended[1].code == 9
    code, table, error = done.said("death", 0)
    assert (code, table) == (1, "")
    assert error.splitlines()[-1] == "vbench: another process of this run is gone; finished runs are kept"
    assert done.ended[0].code == 0, done.ended[0].stderr


@pytest.mark.slow
def test_torchrun_starts_it_as_a_module(setting, alone):
    words = setting.words(f"run RUN {GOOD}", "runs-torchrun")
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vbench", *words]
    done = subprocess.run([sys.executable, *start], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("records in") == 1
    check_same_runs(setting.folder / "runs-torchrun", alone)
