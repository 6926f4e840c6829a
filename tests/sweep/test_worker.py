"""What a worker does with one run: it looks for its record and for what it would learn before it works."""

from __future__ import annotations

import pytest
from sweep_world import build_world

from vbench.run.session import Session
from vbench.sweep.engine import Done, Failed
from vbench.sweep.read import read_suite
from vbench.sweep.tasks import tasks_of
from vbench.sweep.worker import perform


@pytest.fixture
def tasks(tmp_path):
    suite = build_world(tmp_path).suite("attacks: 'uap[evaluations=24,batch=12]'\nside: [query, gallery]\n")
    return tasks_of(read_suite(suite))


def test_a_fit_of_another_process_is_reused_and_a_record_found(tasks, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise RuntimeError("learnt again")

    runs, other = tmp_path / "runs", tmp_path / "other"
    query = perform(tasks[0], Session(runs, quiet=True))
    assert isinstance(query, Done) and query.new and query.memory > 50 * 2**20
    monkeypatch.setattr("vbench.run.execute.own_perturbation", refuse)
    gallery = perform(tasks[1], Session(runs, quiet=True))
    assert isinstance(gallery, Done) and gallery.new and gallery.record != query.record
    again = perform(tasks[1], Session(runs, quiet=True))
    assert isinstance(again, Done) and (again.record, again.new) == (gallery.record, False)
    assert perform(tasks[0], Session(other, quiet=True), {query.record}) == Done(query.record, new=False)

    for path in (runs / "perturbations").iterdir():
        path.write_bytes(path.read_bytes()[:-8])
    for path in runs.glob("*.json"):
        path.unlink()
    failed = perform(tasks[0], Session(runs, quiet=True))
    assert isinstance(failed, Failed) and "learnt again" in failed.reason, "a damaged file is not read"
