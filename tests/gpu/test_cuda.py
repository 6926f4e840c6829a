"""On a GPU: it agrees with the CPU, repeats itself, and goes on when memory is short. Skipped without one."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from kept_runs import tiny_dataset
from small_attacks import SPECS

from vbench.attacks.build import build_attack
from vbench.core.arithmetic import default_arithmetic
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality, Side
from vbench.metrics.change import PerturbationSize
from vbench.run.bench import Bench
from vbench.run.craft import Plan, craft_side
from vbench.run.execute import Run
from vbench.victims.embed import embed
from vbench.victims.load import build_victim, resolve_device
from vbench.victims.precision import Precision, compute_in
from vbench.victims.registry import victims

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]

SIZE = (64, 32)
#: Relative error of embedding and of gradient: rounding to 23, 10 and 7 bits through some fifty layers. Gradients
#: also change where a value near zero changes its sign.
PRECISIONS = {
    "float32": (Precision(), "highest", 1e-4, 1e-2),
    "tf32": (Precision(), "high", 2e-2, 1e-1),
    "bfloat16": (Precision("bfloat16", True), "highest", 1e-1, 5e-1),
}


def thin(name, device="cuda", size=SIZE):
    options = {**victims.load(name).THIN, "input_size": size}
    return build_victim(victims.load(name), num_classes=8, device=device, **options)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("cuda") / "data")


def bench_on(device, dataset):
    return Bench(dataset, thin("agw", device, (32, 16)), None, quiet=True)


@default_arithmetic()
def outcome(victim, images, modality):
    """Embedding and gradient of the images."""
    variable = images.clone().requires_grad_(True)
    embedding = victim(variable, modality).embedding
    (gradient,) = torch.autograd.grad(embedding.square().sum() + embedding[:, 0].sum(), variable)
    return embedding.detach().cpu().double(), gradient.cpu().double()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", victims.names())
def test_a_victim_agrees_with_the_cpu(name, precision):
    chosen, products, *bounds = PRECISIONS[precision]
    victim = thin(name)
    twin = copy.deepcopy(victim).cpu()
    images = torch.rand(8, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    compute_in(victim, chosen)
    before = torch.get_float32_matmul_precision()
    for modality in Modality:
        expected = outcome(twin, images, modality)
        torch.set_float32_matmul_precision(products)
        try:
            found = outcome(victim, images.to("cuda"), modality)
        finally:
            torch.set_float32_matmul_precision(before)
        for one, other, bound in zip(found, expected, bounds, strict=True):
            assert ((one - other).norm() / other.norm()).item() <= bound


@pytest.mark.parametrize("spec", [spec for spec in SPECS if "diversity" not in spec])
def test_an_attack_gives_the_same_bits_twice(dataset, spec):
    """All but input diversity, whose resizing CUDA adds up in any order."""
    found = []
    for _ in range(2):
        run = Run(bench_on("cuda", dataset), build_attack(spec), ThreatModel("8/255"), ignore_gates=True)
        record, learnt = run.execute(quiet=True)
        found.append((record.per_query, record.size, learnt and learnt.digest))
    assert found[0] == found[1]


@pytest.mark.parametrize("spec", ["metric_ifgsm[steps=4]", "uap[evaluations=240,batch=12]"])
def test_an_attack_is_as_strong_as_on_the_cpu(dataset, spec):
    precision = []
    for device in ("cpu", "cuda"):
        run = Run(bench_on(device, dataset), build_attack(spec), ThreatModel("8/255"), ignore_gates=True)
        precision.append(run.execute(quiet=True)[0].mean("adversarial", "map"))
    assert precision[1] == pytest.approx(precision[0], abs=0.05)


def test_when_memory_is_short_the_batch_is_halved(capsys):
    victim, pixels = thin("agw", size=(288, 144)), np.zeros((512, 288, 144, 3), dtype=np.uint8)
    whole = embed(victim, pixels[:2], Modality.VISIBLE, quiet=True).embeddings
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + (256 << 20)
    torch.cuda.set_per_process_memory_fraction(room / total)
    try:
        found = embed(victim, pixels, Modality.VISIBLE, batch=512).embeddings
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "out of memory with 512 images at a time, now 256" in capsys.readouterr().err
    assert torch.allclose(found[:2], whole, atol=1e-4)


two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="a single GPU here")


@two
@pytest.mark.parametrize(
    "spec", ["metric_ifgsm[steps=2]", "art:FastGradientMethod", "uap[evaluations=48,batch=12]"]
)
def test_the_second_gpu_is_used_alone(dataset, spec):
    bench = bench_on("cuda:1", dataset)
    torch.cuda.reset_peak_memory_stats(0)
    held = torch.cuda.max_memory_allocated(0)
    run = Run(bench, build_attack(spec), ThreatModel("8/255"), ignore_gates=True)
    perturbation, _ = run._fit(True, {})
    plan = Plan(run.attack, run.threat, 0, perturbation)
    made = craft_side(bench, Side.QUERY, plan, PerturbationSize(), quiet=True)
    assert made.embeddings.device == resolve_device("cuda:1")
    assert torch.cuda.max_memory_allocated(0) == held and torch.cuda.current_device() == 0


def two_processes(tmp_path):
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "vbench",
    ]
    command = ["run", "--victim", "agw", "--attack", "uap[evaluations=256,batch=32]"]
    given = [*torchrun, *command, "--runs", tmp_path / "runs", "--ignore-gates", "--quiet"]
    return subprocess.run(list(map(str, given)), capture_output=True, text=True, timeout=600, check=False)


@two
def test_two_processes_exchange_over_nccl(tmp_path):
    done = two_processes(tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "runs").glob("*.json"))) == 1


@pytest.mark.skipif(torch.cuda.device_count() != 1, reason="several GPUs here")
def test_two_processes_on_one_gpu_are_refused_in_one_line(tmp_path):
    done = two_processes(tmp_path)
    assert done.returncode != 0
    assert "2 processes for 1 GPU on this machine; start torchrun with --nproc-per-node 1" in done.stderr
