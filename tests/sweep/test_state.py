"""What is known of tasks between processes: who is alive, what the files say, how long the rest takes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time

import pytest
from fake_pool import record, task

from vbench.core.errors import BadInput
from vbench.core.text import show_seconds
from vbench.records.store import RunStore
from vbench.sweep.state import STALE_SECONDS, States, TaskState, as_json, show, sweeps, tasks_in
from vbench.sweep.tasks import Durations


def running(**facts):
    mine = {"host": socket.gethostname(), "driver": os.getpid(), "started": time.time(), "record": "r"}
    return TaskState(status="running", **{**mine, **facts})


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_running_is_believed_while_its_process_lives_and_its_file_is_fresh(tmp_path):
    states = States(tmp_path)
    now = time.time()
    for state, age, expected in [
        (running(), 0, True),
        (running(driver=ended_process()), 0, False),
        (running(driver=None), 0, False),
        (running(host="elsewhere", driver=1), 0, True),
        (running(host="elsewhere", driver=1), STALE_SECONDS + 60, False),
        (running(), STALE_SECONDS + 60, False),
        # The clock was set back by a little, and by an hour.
        (running(), -30, True),
        (running(), -3600, False),
        (running(started=now + 3600), 0, True),
        (TaskState(status="done", host=socket.gethostname(), driver=os.getpid()), 0, False),
    ]:
        states.put("k", state)
        os.utime(states.path("k"), (now - age, now - age))
        assert states.alive("k", state) is expected, (state, age)
    os.utime(states.path("k"), (now - 9999, now - 9999))
    states.touch("k")
    assert abs(states.path("k").stat().st_mtime - now) < 60
    states.touch("never written")
    assert not states.path("never written").exists()


def test_a_state_that_cannot_be_read_is_none(tmp_path):
    states = States(tmp_path)
    states.put("k", running())
    assert states.get("k").status == "running"
    for text in ('{"status": "runn', '{"status": "odd"}', "", "[]"):
        states.path("k").write_text(text)
        assert states.get("k") is None
    states.path("k").write_text('{"status": "done", "of_tomorrow": 1}')
    assert states.get("k").status == "done"


def test_a_listing_is_read_back_without_what_another_version_wrote(tmp_path):
    states, tasks = States(tmp_path), [task(seed=seed) for seed in range(3)]
    assert states.listing() is None
    states.list_tasks(tmp_path / "suite.yaml", tasks, jobs=2)
    assert tasks_in(states.listing()) == tasks
    path = tmp_path / "suite.json"
    content = json.loads(path.read_text())
    content["tasks"][tasks[1].key] = {"of": "tomorrow"}
    path.write_text(json.dumps(content))
    assert tasks_in(states.listing()) == [tasks[0], tasks[2]]


def test_time_left_follows_tasks_of_the_same_kind():
    durations = Durations()
    tasks = [task(seed=seed) for seed in range(4)]
    assert durations.left(tasks, 2) == "time left unknown"
    durations.add(tasks[0], 10.0)
    durations.add(tasks[1], 30.0)
    durations.add(tasks[1], -5.0)
    assert durations.of(task(seed=9, side="gallery")) == 20.0
    assert durations.of(task("other")) == 20.0, "as the attack takes elsewhere"
    assert durations.of(task(attack="uap")) is None
    assert durations.left(tasks, 2) == "about 40 s left"
    assert durations.left(tasks[:1], 8) == "about 20 s left", "one task cannot be split"
    assert durations.left([*tasks, task(attack="uap")], 2) == "more than 40 s left (1 of unknown length)"
    assert durations.left([], 2) == "nothing left"
    assert [show_seconds(s) for s in (0.04, 9.94, 59.4, 61, 3599.6, 7300)] == [
        "0.0 s",
        "9.9 s",
        "59 s",
        "1 min 1 s",
        "1 h 0 min",
        "2 h 1 min",
    ]


def test_status_counts_and_tells_what_runs_and_what_failed(tmp_path):
    tasks = [task(seed=seed) for seed in range(7)]
    states = States.of(tmp_path, "night")
    states.list_tasks(tmp_path / "night.yaml", tasks, jobs=2)
    stored = record("aaa")
    RunStore(tmp_path).write(stored)
    states.put(tasks[0].key, TaskState(status="done", record=stored.id, seconds=30.0))
    states.put(tasks[1].key, running(started=time.time() + 500, pid=77))
    states.put(tasks[2].key, running(driver=ended_process()))
    states.put(tasks[3].key, TaskState(status="failed", reason="agw.t: damaged"))
    states.put(tasks[4].key, TaskState(status="done", record="gone", seconds=10.0))
    states.put(
        tasks[5].key, TaskState(status="failed", record=stored.id, reason="it was done elsewhere since")
    )
    (sweep,) = sweeps(tmp_path)
    assert sweep.counts == {"done": 2, "running": 1, "failed": 1, "interrupted": 1, "to do": 2}
    assert sweep.left == "about 1 min 20 s left", "four tasks of 20 s, one at a time as now"
    text = show(sweep)
    assert "night (" in text and "7 runs: 2 done, 1 running, 1 failed, 1 interrupted, 2 to do" in text
    assert f"running: {tasks[1].title}: for 0.0 s on {socket.gethostname()}, pid 77" in text
    assert "agw.t: damaged" in text and "elsewhere since" not in text
    rows = as_json(sweep)["tasks"]
    assert [row["status"] for row in rows] == [
        "done",
        "running",
        "interrupted",
        "failed",
        "to do",
        "done",
        "to do",
    ]
    with pytest.raises(BadInput, match="no sweep was started"):
        sweeps(tmp_path / "other")
