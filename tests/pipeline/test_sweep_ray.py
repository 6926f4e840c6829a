"""Sweeps on a real Ray cluster on this machine: two workers, one of which is killed."""

from __future__ import annotations

import os
import signal
from collections import Counter

import pytest
from sweep_world import World, build_world

from vbench.records.store import RunStore

pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray>=2.9'")

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(monkeypatch):
    """A head node with two cores, so that Ray runs two workers; its address."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 2, "num_gpus": 0, "object_store_memory": 100 * 2**20, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args=options)
    yield made.address
    made.shutdown()


@pytest.fixture
def world(tmp_path) -> World:
    return build_world(tmp_path)


def test_a_killed_ray_worker_costs_its_run_alone_and_records_land_once(cluster, world, vbench, tmp_path):
    runs, alone, cache = tmp_path / "runs", tmp_path / "alone", str(tmp_path / "cache")
    uap = "uap[evaluations=96,batch=12]"
    suite = world.suite(
        f"attacks: ['./odd.py:Waits', noise, '{uap}', './odd.py:Bad']\nside: [query, gallery]\n"
        "exclude: {attack: [./odd.py:Waits, ./odd.py:Bad], side: gallery}\n"
        "resources: {cpus: 1, retries: 1}\n"
    )
    common = ["sweep", suite, "--allow-code", "--engine", "ray", "--address", cluster, "--runs", runs]
    sweep = world.start(*common, VBENCH_CACHE=cache)
    pid = world.waiting(sweep)
    world.let_go()
    os.kill(pid, signal.SIGKILL)
    out, err = sweep.communicate(timeout=400)
    assert sweep.returncode == 1, err
    assert "6 runs: 5 done (5 of them now), 1 failed" in out
    assert "attack 'bad' yields non-finite" in " ".join(out.split())
    told = Counter(line.split("]")[0] for line in err.splitlines() if ": done in" in line)
    assert len(told) == 5 and set(told.values()) == {1}, "each outcome came in once"

    contents = RunStore(runs).read_all()
    assert len(contents.records) == 5 and not contents.broken
    assert len(list((runs / "perturbations").iterdir())) == 2
    fits = {record.cost["fit_seconds"] for record in contents.records if record.universal}
    assert len(fits) == 1, "what one side learnt went to the other"

    given = ["--dataset", "sysu", "--root", world.folder / "data", "--ignore-gates", "--quiet"]
    given += ["--victim", "agw", "--weights", world.folder / "agw.safetensors", "--runs", alone]
    vbench("run", *given, "--attack", "noise", "--attack", uap)
    ours = {record.id: record.adversarial for record in contents.records}
    for record in RunStore(alone).read_all().records:
        assert ours[record.id] == record.adversarial

    assert "5 done, 1 failed" in vbench("status", suite, "--runs", runs).stdout
    again = world.start(*common, "--keep-failed", VBENCH_CACHE=cache)
    out, err = again.communicate(timeout=200)
    assert "6 runs: 5 done, 1 failed" in out and again.returncode == 1, err


def test_without_a_cluster_one_line_says_so(world, vbench, tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    suite = world.suite("attacks: noise\n")
    base = ["sweep", suite, "--engine", "ray", "--runs", tmp_path / "runs"]
    refused = vbench(*base, "--address", "127.0.0.1:1", expect=2)
    assert "no Ray cluster at '127.0.0.1:1'" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert "no Ray cluster at 'auto'" in vbench(*base, expect=2).stderr
