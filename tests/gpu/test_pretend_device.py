"""On a pretend GPU: every victim, attack, training and metric keeps to its device, and waits for it seldom.

``pretend_device`` marks tensors of the CPU as lying on "cuda:0", refuses operations that mix devices as CUDA would,
and counts what would launch kernels, copy between devices, or wait. It knows nothing of kernels, memory and speed.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pretend_device
import pytest
import torch
from kept_runs import tiny_dataset
from pretend_device import STATS, pretend
from small_attacks import SPECS
from tiny import SIZE, TinyVictim

from vbench.attacks import Battery
from vbench.attacks.build import build_attack
from vbench.attacks.ensemble import Ensemble
from vbench.attacks.from_art import RULES as ART
from vbench.attacks.from_torchattacks import RULES as TORCHATTACKS
from vbench.attacks.registry import attacks
from vbench.core.threat import ThreatModel
from vbench.core.types import SIMILARITIES, Modality, Side
from vbench.metrics import rank_embeddings, ranking
from vbench.metrics.change import PerturbationSize
from vbench.run import prepare
from vbench.run.bench import Bench
from vbench.run.craft import Crafter, Meter, Plan, craft_side
from vbench.run.execute import Run
from vbench.victims.base import frozen
from vbench.victims.embed import batch_of, embed, to_images
from vbench.victims.load import build_victim
from vbench.victims.precision import Precision, compute_in
from vbench.victims.registry import victims
from vbench.victims.training.batches import TrainImages
from vbench.victims.training.trainer import recipe_of, train_victim

#: The first of each attack; the variants take minutes together.
FIRST = [
    pytest.param(
        spec, marks=[pytest.mark.slow] * any(one.startswith(spec.split("[")[0] + "[") for one in SPECS[:row])
    )
    for row, spec in enumerate(SPECS)
]
LIBRARIES = [
    f"{library}:{name}"
    for library, rules in (("torchattacks", TORCHATTACKS), ("art", ART))
    for name, rule in rules.items()
    if not isinstance(rule, str)
]
#: Of the libraries' attacks those that end at once, one of each library whole and one image by image.
QUICK_LIBRARIES = [
    "torchattacks:FGSM",
    "torchattacks:PGD[steps=2]",
    "art:FastGradientMethod",
    "art:HopSkipJump[max_iter=1,max_eval=4,init_eval=2]",
]
#: Settings that libraries' attacks have under different names, so that none takes long.
FEW = {
    "steps": 2,
    "n_queries": 3,
    "max_iter": 2,
    "nb_iter": 2,
    "n_restarts": 1,
    "nb_random_init": 1,
    "nb_parallel": 1,
    "binary_search_steps": 1,
    "init_eval": 2,
    "max_eval": 3,
    "init_size": 3,
    "num_trial": 2,
    "sample_size": 2,
    "curr_adv_trial": 2,
    "nb_restarts": 1,
    "max_halving": 1,
    "max_doubling": 1,
    "num_random_init": 1,
}


@pytest.fixture(scope="module", autouse=True)
def pretending():
    with pretend():
        yield


@pytest.fixture(autouse=True)
def counted():
    pretend_device.reset()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("pretend") / "data")


@pytest.fixture(scope="module")
def bench(dataset):
    return on_gpu(dataset)


def on_gpu(dataset):
    return Bench(dataset, TinyVictim().eval().to("cuda"), None, quiet=True)


def run_of(bench, spec, side="query", norm="linf"):
    attack = build_attack(spec) if isinstance(spec, str) else spec
    return Run(
        bench, attack, ThreatModel("8/255" if norm == "linf" else "1.0", norm, side), ignore_gates=True
    )


def thin(name):
    options = {**victims.load(name).THIN, "input_size": (64, 32)}
    return build_victim(victims.load(name), num_classes=4, device="cuda", **options)


def waits(part=""):
    """How often the device was waited for in files whose path contains ``part``."""
    return sum(count for kind in ("sync", "d2h") for where, count in STATS[kind].items() if part in where)


@pytest.mark.parametrize("name", victims.names())
def test_a_victim_computes_where_it_lies(name):
    victim, images = thin(name), torch.rand(2, 3, 64, 32).to("cuda")
    for precision in (Precision(), Precision("bfloat16", True)):
        compute_in(victim, precision)
        for modality in Modality:
            variable = images.clone().requires_grad_(True)
            output = victim(
                variable, modality, {stage: lambda features: features * 1.0 for stage in victim.stages}
            )
            (gradient,) = torch.autograd.grad(output.embedding.square().sum(), variable)
            found = [gradient, output.embedding, *output.features.values(), *output.parts.values()]
            assert {tensor.device.type for tensor in found} == {"cuda"}


# The larger networks take most of a minute.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("caj", "ddag", "deen", "mmn", "mpanet")))
        for name in victims.names()
    ],
)
def test_training_stays_where_the_victim_lies(name):
    victim = thin(name)
    recipe = dataclasses.replace(recipe_of(victim, 1), **ONE_STEP)
    train_small(victim, recipe)
    assert next(victim.parameters()).device.type == "cuda"


#: One step over two images of each of four people.
ONE_STEP = {"identities": 4, "instances": 2, "validation": 0.0, "warmup_epochs": 0.0}


def train_small(victim, recipe, count=2, precision="auto"):
    """Train on ``count`` images of each of four identities and modality."""
    height, width = victim.input_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4 * count, height, width, 3), dtype=np.uint8)
    labels = np.arange(4).repeat(count)
    images = TrainImages(pixels[0], pixels[1], labels, labels)
    return train_victim(
        victim, four_people(count), images, 0, recipe=recipe, device="cuda", quiet=True, precision=precision
    )


def four_people(count):
    from vbench.data.base import Sample

    @dataclasses.dataclass
    class Four:
        metric, split, name = "regdb", "regdb/trial-1", "regdb"
        query_modality, gallery_modality, synthetic = Modality.VISIBLE, Modality.INFRARED, True
        protocol = "regdb"
        train_labels = {pid: pid for pid in range(4)}  # noqa: RUF012

    four = Four()
    for modality in Modality:
        samples = tuple(Sample(f"{pid}.jpg", pid, 1, modality) for pid in range(4) for _ in range(count))
        setattr(four, f"train_{modality.value}", samples)
    return four


def test_every_attack_has_a_row():
    named = {spec.split("[")[0] for spec in SPECS}
    assert {name for name in attacks.names() if not issubclass(attacks.load(name), Battery)} <= named


@pytest.mark.parametrize("spec", FIRST)
def test_a_run_of_an_attack_stays_on_the_device(bench, spec):
    record, learnt = run_of(bench, spec).execute(quiet=True)
    assert record.environment["device"] == "cuda" and record.environment["device_name"].startswith("PRETEND")
    assert record.environment["versions"].get("cuda") == torch.version.cuda
    # Beyond what lay there when the attack began.
    assert record.cost["peak_memory"] == 345
    assert any("input diversity on a GPU" in warning for warning in record.warnings) == ("diversity=" in spec)
    assert (learnt is not None) == attacks.load(spec.split("[")[0]).universal


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["metric_ifgsm[steps=2]", "noise", "lta[steps=2]", "simba[queries=4]"])
@pytest.mark.parametrize(("side", "norm"), [("both", "linf"), ("gallery", "l2")])
def test_other_threat_models(bench, spec, side, norm):
    run_of(bench, spec, side, norm).execute(quiet=True)


@pytest.mark.slow
def test_the_ensemble(bench, monkeypatch):
    few = tuple(
        map(build_attack, ("noise", "pgd[steps=2]", "uap[evaluations=48,batch=12]", "square[queries=3]"))
    )
    monkeypatch.setattr(Ensemble, "attacks", lambda self: few)
    run_of(bench, "ensemble").execute(quiet=True)


@pytest.mark.parametrize(
    "spec", [*QUICK_LIBRARIES, *(pytest.param(spec, marks=pytest.mark.slow) for spec in LIBRARIES)]
)
def test_an_attack_of_a_library_gives_images_on_the_device(bench, spec):
    if "[" not in spec:
        fields = {field.name for field in dataclasses.fields(attacks.load(spec))}
        spec += f"[{','.join(f'{name}={value}' for name, value in FEW.items() if name in fields)}]"
        spec = spec.removesuffix("[]")
    attack = build_attack(spec)
    norm = "linf" if "linf" in attack.norms else "l2"
    run = run_of(bench, attack, norm=norm)
    rows = slice(0, 2)
    clean = to_images(bench.pixels[Side.QUERY][rows], bench.victim)
    made, _ = Crafter(bench, bench.victim, Side.QUERY, Plan(attack, run.threat, 0)).craft(clean, rows, (1, 2))
    assert made.device.type == "cuda"


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("rule", ["sysu", "regdb", "llcm"])
def test_rankings_on_the_device_are_those_on_the_cpu(similarity, rule):
    draws = torch.Generator().manual_seed(0)
    query, gallery = torch.rand(9, 4, generator=draws), torch.rand(40, 4, generator=draws)
    labels = (torch.arange(9) % 3, torch.arange(40) % 3, torch.arange(9) % 2 + 3, torch.arange(40) % 2 + 1)
    given = {"similarity": similarity, "protocol": rule}
    there = rank_embeddings(query.to("cuda"), gallery.to("cuda"), *labels, **given)
    assert there.mAP == rank_embeddings(query, gallery, *labels, **given).mAP


def test_a_gpu_ranks_more_queries_at_once(monkeypatch):
    blocks, real = [], ranking._rank_block
    monkeypatch.setattr(ranking, "_EMBEDDING_ENTRIES", {"cpu": 40, "cuda": 400})
    monkeypatch.setattr(ranking, "_rank_block", lambda *given: blocks.append(1) or real(*given))
    ids, query, gallery = torch.zeros(10, dtype=torch.int64), torch.rand(10, 4), torch.rand(10, 4)
    for device, count in (("cpu", 3), ("cuda", 1)):
        blocks.clear()
        rank_embeddings(query.to(device), gallery.to(device), ids, ids, protocol="regdb")
        assert len(blocks) == count


def test_freezing_again_waits_for_nothing_and_launches_one_kernel():
    victim = thin("agw").train()
    buffers = {name: buffer.clone() for name, buffer in victim.named_buffers()}
    with frozen(victim):
        pretend_device.reset()
        with frozen(victim):
            victim.train()(torch.rand(2, 3, 64, 32).to("cuda"), Modality.VISIBLE)
            pretend_device.reset()
        assert (waits(), sum(STATS["launch"].values())) == (0, 1)
        assert all(torch.equal(buffer, buffers[name]) for name, buffer in victim.named_buffers())
    assert victim.training


def waits_of_crafting(bench, spec, batch):
    pretend_device.reset()
    plan = Plan(build_attack(spec), ThreatModel("8/255"), 0)
    craft_side(bench, Side.QUERY, plan, PerturbationSize(), quiet=True, batch=batch)
    assert not waits("victims/base.py")
    return waits()


def test_crafting_waits_once_a_step_and_a_few_times_a_batch(bench):
    images = len(bench.pixels[Side.QUERY])
    assert images % 4 == 0 and bench.clean
    halves, quarters = (
        waits_of_crafting(bench, "metric_ifgsm[steps=2]", images // parts) for parts in (2, 4)
    )
    more = waits_of_crafting(bench, "metric_ifgsm[steps=7]", images // 2)
    assert more - halves == 2 * 5
    assert (quarters - halves) / 2 <= 2 + WAITS_A_BATCH


#: Beside those of the steps: images, budget, embedding and their sizes are each checked once.
WAITS_A_BATCH = 14


def test_similarity_of_images_takes_two_small_convolutions(bench):
    images = to_images(bench.pixels[Side.QUERY], bench.victim)
    pretend_device.reset()
    PerturbationSize().add(images, images.flip(0), torch.ones(len(images)).to("cuda"))
    assert STATS["ops"]["aten::convolution"] == 2


def test_a_training_step_waits_for_nothing_and_takes_its_images_up_as_bytes():
    victim = thin("agw")
    recipe = dataclasses.replace(recipe_of(victim, 1), **ONE_STEP)
    train_small(victim, recipe, count=4)
    # The losses of an epoch are read once, at its end; its sixteen images of each modality taken up once.
    assert waits("training/trainer.py") == 1
    taken = sum(count for where, count in STATS["h2d_bytes"].items() if "training/trainer.py" in where)
    assert taken == 2 * 16 * 3 * 64 * 32 + 16 * 8


def test_prototypes_are_not_added_up_on_a_gpu(bench):
    found = bench.prototypes()
    assert {one.device.type for one in found.values()} == {"cuda"}
    assert not [name for name in STATS["ops"] if "index_add" in name]


def test_a_fit_copies_training_images_up_once_and_in_parts(bench, monkeypatch):
    assert bench.training[Modality.VISIBLE].images.device.type == "cuda"
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (1000, 80 << 30))
    view = bench.training[Modality.VISIBLE]
    assert view.images.device.type == "cpu" and view.batch(torch.arange(3)).device.type == "cuda"


def test_the_precision_that_is_chosen_embeds_nothing_again(dataset, tmp_path, monkeypatch):
    bench, calls = on_gpu(dataset), []
    real = prepare.measure
    monkeypatch.setattr(prepare, "measure", lambda *given: calls.append(given[1]) or real(*given))
    prepare.choose_precision(bench, "auto", None, tmp_path, quiet=True)
    assert len(calls) == 4
    with Meter(bench.victim) as meter:
        assert bench.clean[Side.QUERY].embeddings.device.type == "cuda" and bench.clean_trials
    assert meter.forwards == 0


def test_batches_follow_the_size_of_a_gpu():
    victim = TinyVictim()
    assert (batch_of(victim), batch_of(victim.to("cuda"))) == (64, 256)
    found = embed(victim.eval(), np.zeros((5, *SIZE, 3), np.uint8), Modality.VISIBLE)
    assert found.embeddings.device.type == "cuda"
