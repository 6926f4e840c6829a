"""What torch is set to changes no figure, or is part of the id; a narrow victim keeps the 8-bit grid."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, nullcontext

import pytest
import torch
from kept_runs import tiny_bench, tiny_dataset
from tiny import TinyVictim

from vbench.attacks.build import build_attack
from vbench.core.arithmetic import default_arithmetic, float32_products
from vbench.core.threat import ThreatModel
from vbench.core.types import Modality
from vbench.run.bench import Bench
from vbench.run.craft import Meter
from vbench.run.execute import Run

SPEC = "metric_ifgsm[steps=2]"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("arithmetic") / "data")


def outcome(dataset, victim=None):
    """Configuration, per-query values and size of the change of one run."""
    bench = tiny_bench(dataset) if victim is None else Bench(dataset, victim.eval(), None, quiet=True)
    record, _ = Run(bench, build_attack(SPEC), ThreatModel("8/255"), ignore_gates=True).execute(True)
    return record.config, record.per_query, record.size


@contextmanager
def double_by_default():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def flushing():
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "default device": lambda: torch.device("meta"),
    "default dtype": double_by_default,
    "denormals": flushing,
    "deterministic": deterministic,
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_what_a_caller_set_changes_nothing(dataset, state):
    expected = outcome(dataset)
    victim = TinyVictim()
    with state():
        assert outcome(dataset, victim) == expected


def test_everything_comes_back_after_an_error():
    with ExitStack() as stack:
        stack.enter_context(torch.autocast("cpu", torch.bfloat16))
        stack.enter_context(torch.no_grad())
        stack.enter_context(double_by_default())
        with pytest.raises(ValueError), default_arithmetic():
            assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")
            assert torch.get_default_dtype() is torch.float32
            raise ValueError
        assert not torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        assert torch.get_default_dtype() is torch.float64


def test_convolutions_on_a_gpu_are_as_exact_as_products_and_repeat():
    cudnn, gpu = torch.backends.cudnn, torch.device("cuda")
    assert cudnn.allow_tf32 and not cudnn.deterministic
    before = torch.get_float32_matmul_precision()
    for asked, name in (("highest", "ieee"), ("high", "tf32")):
        torch.set_float32_matmul_precision(asked)
        try:
            with default_arithmetic():
                assert (cudnn.allow_tf32, cudnn.deterministic) == (name == "tf32", True)
                assert float32_products(gpu) == {"matmul": name, "convolution": name}
        finally:
            torch.set_float32_matmul_precision(before)
    assert cudnn.allow_tf32 and not cudnn.deterministic


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="names of torch 2.9 and later")
def test_the_newer_names_of_these_settings_come_back_too():
    conv = torch.backends.cudnn.conv
    before, conv.fp32_precision = conv.fp32_precision, "ieee"
    try:
        with default_arithmetic():
            assert torch.backends.cudnn.allow_tf32 is False
        assert conv.fp32_precision == "ieee"
    finally:
        torch.backends.cudnn.allow_tf32 = before == "tf32"


def test_how_matrices_are_multiplied_is_part_of_the_id(dataset):
    run = Run(tiny_bench(dataset), build_attack("noise"), ThreatModel("8/255"))
    plain, before = run.config(), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        changed = run.config()
    finally:
        torch.set_float32_matmul_precision(before)
    assert plain["victim"]["precision"]["float32"]["matmul"] == "ieee"
    assert changed["victim"]["precision"]["float32"]["matmul"] == "bf16"
    assert run.bench.victim_label() == "tiny"


def test_the_type_of_the_weights_is_part_of_the_id(dataset):
    cards = []
    for change in (nullcontext, torch.nn.Module.bfloat16, half_of):
        victim = TinyVictim()
        if change is not nullcontext:
            change(victim)
        cards.append(Bench(dataset, victim.eval(), None, quiet=True).victim_card()["precision"])
    assert [card["dtype"] for card in cards] == ["float32", "bfloat16", "float32"]
    assert [card["parameters"] for card in cards] == ["float32", "bfloat16", "bfloat16+float32"]
    assert not any(card["autocast"] for card in cards)


def half_of(victim):
    victim.classifier.bfloat16()


def test_images_of_a_narrow_victim_stay_on_the_grid(dataset):
    _, _, size = outcome(dataset, TinyVictim().bfloat16())
    assert size["linf_levels"] == pytest.approx(8, abs=1e-3)


def test_memory_that_was_given_back_is_not_counted():
    victim, images = TinyVictim().eval(), torch.zeros(2, 3, 16, 8)
    before = torch.ones(150_000_000)
    with Meter(victim) as held:
        victim(images, Modality.VISIBLE)
    del before
    with Meter(victim) as freed:
        victim(images, Modality.VISIBLE)
    assert 0 < freed.peak_memory < held.peak_memory - 400_000_000
