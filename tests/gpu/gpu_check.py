"""One prepared run of vbench on a GPU: does it agree with the CPU, how fast is it, and the first full-size table.

    python gpu_check.py all --out $OUT --deadline 540          # with a GPU
    python gpu_check.py all --out OUT --tiny --device cpu   # rehearsal without a GPU

Phases run in the order of their value; each is timed, none may start when too little time is left, and results.json
is written after every phase, so that whatever was done comes back. Nothing here changes vbench.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
from pathlib import Path

START = time.monotonic()
# README.md, "Attacks side by side": Rank-1 and mAP after the attack, thin AGW (shipped weights), on a CPU.
CPU_TABLE = {
    "noise": (79.3, 75.0),
    "fgsm": (46.6, 45.7),
    "pgd": (26.3, 30.3),
    "mifgsm": (29.4, 32.5),
    "metric_fgsm": (36.2, 38.4),
    "metric_ifgsm": (15.4, 18.9),
    "metric_mifgsm": (20.7, 23.5),
    "sma": (7.6, 10.2),
    "fna": (9.7, 12.4),
    "odfa": (19.1, 21.7),
    "uap": (30.3, 32.5),
    "cmps": (39.1, 40.1),
    "fsam_uap": (33.5, 34.9),
    "fsam_uap[level=feature]": (34.2, 35.3),
}
# Run once each, small budgets: the point is that they run on CUDA at all.
TOUCH = [
    "metric_ifgsm[steps=2,guides=training]",
    "metric_ifgsm[steps=2,guides=gallery]",
    "lta[steps=2]",
    "metric_ifgsm[steps=2,restarts=2,diversity=0.9,smoothing=5]",
    "metric_mifgsm[steps=2,momentum=1,nesterov=true]",
    "square[queries=5]",
    "square[queries=5,feedback=ranking]",
    "simba[queries=5]",
    "simba[queries=5,feedback=ranking]",
    "uap[loss=list,evaluations=256]",
    "uap[loss=cross_entropy,evaluations=256]",
    "uap[update=pooled,starts=2,evaluations=640]",
    "muap[evaluations=256]",
    "mis_ranking[evaluations=256,blocks=1]",
    "fsam_uap[preset=paper,evaluations=2000]",
    "fsam_uap[preset=strong,evaluations=320]",
    "fsam_uap[level=feature,modules=joint,stages=all,evaluations=2600,margin=5]",
    "torchattacks:APGD[steps=2]",
    "torchattacks:Square[n_queries=3]",
    "torchattacks:MIFGSM[steps=2]",
    "art:MomentumIterativeMethod[max_iter=2]",
    "art:HopSkipJump[max_iter=1,max_eval=4,init_eval=2]",
]
VICTIMS = ("agw", "pmt", "mmn", "deen", "ddag", "mpanet", "mrcn", "caj", "hcloss")
UNIVERSAL = (
    "uap",
    "uap[loss=cross_entropy]",
    "cmps",
    "fsam_uap",
    "fsam_uap[preset=paper]",
    "fsam_uap[preset=strong]",
    "fsam_uap[level=feature]",
)
PER_IMAGE = (
    "fgsm",
    "pgd",
    "metric_ifgsm",
    "sma",
    "fna",
    "odfa",
    "lta",
    "square[queries=20]",
    "simba[queries=20]",
    "noise",
)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("phase")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vbench-gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--deadline", type=float, default=540.0, help="seconds from the start of this program"
    )
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--precision", default="")
    parser.add_argument("--train-seconds", type=float, default=150.0)
    return parser.parse_args()


GIVEN = parsed()
TINY, DEVICE, OUT, WORK = GIVEN.tiny, GIVEN.device, GIVEN.out, GIVEN.work
os.environ.setdefault("VBENCH_CACHE", str(WORK / "cache"))
RESULTS: dict = {"phases": {}}


def left() -> float:
    return GIVEN.deadline - (time.monotonic() - START)


def say(text: str) -> None:
    print(f"[{time.monotonic() - START:6.1f}s] {text}", flush=True)


def save(name: str = "results.json") -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_text(json.dumps(RESULTS, indent=1, default=str))


def phase(name: str, need: float, work, *arguments) -> object:
    """Run one phase if there is time; what it returns and how long it took is kept, an error too."""
    if left() < need:
        say(f"{name}: skipped, {left():.0f} s left and {need:.0f} needed")
        RESULTS["phases"][name] = {"skipped": left()}
        save()
        return None
    say(f"{name} ...")
    started, entry = time.monotonic(), {}
    try:
        entry["found"] = work(*arguments)
    except BaseException as error:
        entry["error"] = f"{type(error).__name__}: {error}"
        entry["trace"] = traceback.format_exc()[-3000:]
        say(f"{name}: {entry['error'][:300]}")
        if isinstance(error, KeyboardInterrupt):
            raise
    entry["seconds"] = round(time.monotonic() - started, 1)
    RESULTS["phases"][name] = entry
    say(f"{name}: {entry['seconds']} s")
    save()
    return entry.get("found")


# ------------------------------------------------------------------------------------------------ drawing
def shots(train_ids: int, test_ids: int):
    """A SYSU-like plan: 20 visible and 20 infrared images of a training identity, 3,840 queries at full size."""
    from vbench.core.types import Modality
    from vbench.data.synthetic.render import Shot
    from vbench.data.synthetic.write import SYSU_INFRARED_CAMS, SYSU_VISIBLE_CAMS

    v, i = (2, 3) if TINY else (5, 10)
    tv, ti = (2, 2) if TINY else (6, 20)
    pictures = {}
    for pid in range(1, train_ids + test_ids + 1):
        unseen = pid > train_ids
        for cams, modality, count in (
            (SYSU_VISIBLE_CAMS, Modality.VISIBLE, tv if unseen else v),
            (SYSU_INFRARED_CAMS, Modality.INFRARED, ti if unseen else i),
        ):
            for cam in cams:
                for number in range(1, count + 1):
                    pictures[f"cam{cam}/{pid:04d}/{number:04d}.jpg"] = Shot(pid, cam, modality, number)
    return pictures


def _draw(task) -> int:
    """Some pictures of one modality, written to their files; in a process of its own."""
    root, size, part = task
    import numpy as np

    from vbench.data.synthetic.people import draw_people
    from vbench.data.synthetic.render import render
    from vbench.data.synthetic.write import encode

    for start in range(0, len(part), 3):  # few at a time: more no longer fit into a core's cache
        paths, pictures = zip(*part[start : start + 3], strict=True)
        pids = sorted({shot.pid for shot in pictures})
        who = np.searchsorted(pids, [shot.pid for shot in pictures])
        for path, picture in zip(
            paths, render(draw_people(0, pids).rows(who), pictures, 0, size), strict=True
        ):
            (root / path).write_bytes(encode(picture, ".jpg"))
    return len(part)


def size_of() -> tuple[int, int]:
    return (64, 32) if TINY else (288, 144)


def people() -> tuple[int, int]:
    return (24, 12) if TINY else (395, 96)


def draw() -> dict:
    """The full-size synthetic set, drawn by many processes; and the small default set for the thin victim."""
    from multiprocessing import get_context

    from vbench.core.types import Modality
    from vbench.data.synthetic.write import MANIFEST, _id_line, _permutations

    started = time.monotonic()
    train, test = people()
    root, size = WORK / "data", size_of()
    shutil.rmtree(root, ignore_errors=True)
    pictures = shots(train, test)
    for folder in sorted({str(Path(path).parent) for path in pictures}):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "exp").mkdir()
    validation = [pid for pid in range(1, train + 1) if pid % 5 == 0]
    (root / "exp/train_id.txt").write_bytes(_id_line(p for p in range(1, train + 1) if p % 5))
    (root / "exp/val_id.txt").write_bytes(_id_line(validation))
    (root / "exp/test_id.txt").write_bytes(_id_line(range(train + 1, train + test + 1)))
    (root / "exp/rand_perm_cam.mat").write_bytes(_permutations(pictures.values(), train + test, 0))
    tasks = []
    for modality in Modality:
        wanted = [(path, shot) for path, shot in pictures.items() if shot.modality is modality]
        tasks += [(root, size, wanted[start : start + 12]) for start in range(0, len(wanted), 12)]
    workers = 2 if TINY else max(2, (os.cpu_count() or 2) - 3)
    with get_context("fork").Pool(workers) as pool:
        drawn = sum(pool.imap_unordered(_draw, tasks))
    facts = {
        "generator": "gpu_check",
        "layout": "sysu",
        "ids": train,
        "test_ids": test,
        "seed": 0,
        "size": list(size),
    }
    (root / MANIFEST).write_text(json.dumps(facts))
    return {"images": drawn, "workers": workers, "seconds": time.monotonic() - started}


def drawn_set():
    from vbench.data import open_dataset

    return open_dataset("sysu", WORK / "data", None)


# ------------------------------------------------------------------------------------------------ measuring
def sync() -> None:
    import torch

    if DEVICE.startswith("cuda"):
        torch.cuda.synchronize()


def rate(work, images: int, least: float = 0.5, most: int = 40) -> float:
    """Images a second: median of calls, warmed up, the device's work included."""
    if TINY:
        least, most = 0.01, 2
    work(), work()
    sync()
    times = []
    while (sum(times) < least or len(times) < 3) and len(times) < most:
        start = time.perf_counter()
        work()
        sync()
        times.append(time.perf_counter() - start)
    return images / statistics.median(times)


def ceilings() -> dict:
    """What the card does at its best: copies, and matrix products in three precisions."""
    import torch

    found = {}
    if DEVICE.startswith("cuda"):
        found["device"] = torch.cuda.get_device_name()
    n = 512 if TINY else 8192
    big = torch.empty((64 if TINY else 4096) << 20, dtype=torch.uint8, device=DEVICE)
    other = torch.empty_like(big)
    found["copy_TBps"] = rate(lambda: other.copy_(big), 2 * big.numel(), 0.2) / 1e12
    del big, other
    a, b = torch.randn(n, n, device=DEVICE), torch.randn(n, n, device=DEVICE)
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("bf16", torch.bfloat16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        x, y = a.to(dtype), b.to(dtype)
        found[f"{name}_TFLOPs"] = rate(lambda x=x, y=y: x @ y, 2 * n**3, 0.2) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    pinned = torch.empty(8 << 20, dtype=torch.uint8)
    found["pageable_h2d_GBps"] = rate(lambda: pinned.to(DEVICE), pinned.numel(), 0.1) / 1e9
    if DEVICE.startswith("cuda"):
        fast = pinned.pin_memory()
        found["pinned_h2d_GBps"] = rate(lambda: fast.to(DEVICE, non_blocking=True), fast.numel(), 0.1) / 1e9
    say(str(found))
    return found


#: GFLOP (2 a multiply-add) an image: forward, and forward with the gradient of the image; counted with FlopCounterMode.
GFLOP = {
    "agw": (10.3, 20.5),
    "caj": (20.5, 41.1),
    "ddag": (10.3, 20.7),
    "mmn": (36.5, 73.0),
    "deen": (76.4, 157.1),
    "mpanet": (12.2, 24.4),
    "pmt": (35.1, 71.7),
    "mrcn": (18.2, 36.5),
    "hcloss": (10.3, 20.5),
}


def built(name: str, thin: bool = False, classes: int = 395):
    import torch

    from vbench.victims.load import build_victim
    from vbench.victims.registry import victims

    cls = victims.load(name)
    options = {**cls.THIN, "input_size": (64, 32)} if thin else {}
    return build_victim(
        cls, num_classes=classes, device=DEVICE, generator=torch.Generator().manual_seed(1), **options
    )


def speed_of(name: str, tops: dict) -> dict:
    """One full-size victim: the bare loop in several ways, and what vbench's own calls reach."""
    import numpy as np
    import torch

    from vbench.attacks.base import Context
    from vbench.attacks.build import build_attack
    from vbench.core.threat import ThreatModel
    from vbench.core.types import Modality
    from vbench.victims.base import frozen
    from vbench.victims.embed import embed
    from vbench.victims.precision import Precision, compute_in

    victim = built(name, thin=TINY)
    found: dict = {}
    batches = (4,) if TINY else (64, 256)
    pixels = np.random.default_rng(0).integers(0, 256, (max(batches), *victim.input_size, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(DEVICE).float().div(255).contiguous()

    def forward(x):
        with torch.no_grad():
            victim(x, Modality.INFRARED)

    def backward(x):
        variable = x.detach().requires_grad_(True)
        torch.autograd.grad(victim(variable, Modality.INFRARED).embedding.sum(), variable)

    for precision in (Precision(),) if TINY else (Precision(), Precision("bfloat16", True)):
        compute_in(victim, precision)
        for batch in batches:
            with frozen(victim):
                for what, work, flop in (("forward", forward, 0), ("gradient", backward, 1)):
                    key = f"bare {what} {precision} b{batch}"
                    try:
                        found[key] = round(rate(lambda: work(images[:batch]), batch), 1)
                    except torch.cuda.OutOfMemoryError:
                        torch.cuda.empty_cache()
                        found[key] = None
                        continue
                    peak = tops.get("bf16_TFLOPs" if precision.dtype == "bfloat16" else "tf32_TFLOPs", 0)
                    if peak:
                        found[f"share of peak: {key}"] = round(found[key] * GFLOP[name][flop] / 1e3 / peak, 4)
    many = np.concatenate([pixels] * (1 if TINY else 2))
    for batch in batches:
        found[f"vbench embed b{batch}"] = round(
            rate(lambda: embed(victim, many, Modality.INFRARED, quiet=True, batch=batch), len(many)), 1
        )
    # frozen() copies and compares every buffer: its cost alone.
    empty = rate(lambda: frozen_only(victim), 1, 0.2)
    found["frozen() alone, ms"] = round(1e3 / empty, 3)
    clean = embed(victim, pixels[: batches[0]], Modality.INFRARED, quiet=True)
    specs = PER_IMAGE if name == "agw" else ("pgd", "metric_ifgsm")
    for spec in specs:
        attack, x = build_attack(spec), images[: batches[0]]
        context = Context(
            ThreatModel(),
            tuple(range(len(x))),
            clean.embeddings.to(x),
            dict.fromkeys(Modality, clean.embeddings),
            None,
            clean.predictions,
        )
        found[f"craft {spec} b{len(x)}"] = round(
            rate(lambda: attack.perturb(victim, x, Modality.INFRARED, context), len(x), 0.4, 6), 1
        )
    say(f"{name}: " + ", ".join(f"{k} {v}" for k, v in found.items() if "share" not in k))
    return found


def frozen_only(victim) -> None:
    from vbench.victims.base import frozen

    with frozen(victim):
        pass


def speed(tops: dict) -> dict:
    found = {}
    for name in VICTIMS[:1] if TINY else VICTIMS:
        if left() < 330 and not TINY:
            found[name] = "skipped"
            continue
        try:
            found[name] = speed_of(name, tops)
        except Exception as error:
            found[name] = f"{type(error).__name__}: {error}"
            say(f"{name}: {found[name]}")
        if DEVICE.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
        RESULTS["phases"]["speed"] = {"found": found}
        save()
    return found


def profile() -> dict:
    """Where the time of one batch of a universal attack's evaluation, and of its fit, goes."""
    import numpy as np
    import torch

    from vbench.attacks.build import build_attack
    from vbench.attacks.perturbation import Perturbation
    from vbench.core.threat import ThreatModel
    from vbench.core.types import Modality, Side
    from vbench.metrics.change import PerturbationSize
    from vbench.run.craft import Plan, craft_side
    from vbench.victims.precision import Precision, compute_in

    victim = built("agw", thin=TINY)
    compute_in(victim, Precision() if TINY else Precision("bfloat16", True))
    pixels = np.random.default_rng(0).integers(
        0, 256, (16 if TINY else 256, *victim.input_size, 3), dtype=np.uint8
    )

    class Bench:
        def __init__(self):
            self.victim, self.pixels = victim, {Side.QUERY: pixels}

        def modality(self, side):
            return Modality.INFRARED

    delta = torch.full((3, *victim.input_size), 4 / 255)
    plan = Plan(build_attack("uap"), ThreatModel(), 0, Perturbation(delta))
    run = lambda: craft_side(Bench(), Side.QUERY, plan, PerturbationSize(), quiet=True)  # noqa: E731
    found = {"universal evaluation, images/s": rate(run, len(pixels))}
    activities = [torch.profiler.ProfilerActivity.CPU]
    if DEVICE.startswith("cuda"):
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as trace:
        start = time.perf_counter()
        run()
        sync()
        wall = time.perf_counter() - start
    key = "cuda" if DEVICE.startswith("cuda") else "cpu"
    rows = trace.key_averages()
    busy = (
        sum(getattr(row, f"self_{'device' if key == 'cuda' else 'cpu'}_time_total", 0) for row in rows) / 1e6
    )
    found["share of time the device is busy"] = busy / wall
    found["table"] = rows.table(
        sort_by=f"self_{'cuda' if key == 'cuda' else 'cpu'}_time_total", row_limit=25
    )[-9000:]
    say(
        f"universal evaluation {found['universal evaluation, images/s']:.0f} images/s, device busy {found['share of time the device is busy']:.2f}"
    )
    return found


# ------------------------------------------------------------------------------------------------ agreement
def agreement() -> dict:
    """Each thin victim on the device against the CPU: embedding and gradient of the image, in three precisions."""
    import copy

    import torch

    from vbench.core.types import Modality
    from vbench.victims.precision import Precision, compute_in

    found = {}
    for name in VICTIMS:
        victim = built(name, thin=True, classes=40)
        twin = copy.deepcopy(victim).cpu()
        images = torch.rand(8, 3, 64, 32, generator=torch.Generator().manual_seed(0))

        def both(model, x, modality):
            variable = x.clone().requires_grad_(True)
            output = model(variable, modality)
            (gradient,) = torch.autograd.grad(
                output.embedding.square().sum() + output.embedding[:, 0].sum(), variable
            )
            return output.embedding.detach().cpu().double(), gradient.cpu().double()

        row = {}
        for label, precision, tf32 in (
            ("fp32", Precision(), False),
            ("tf32", Precision(), True),
            ("bf16", Precision("bfloat16", True), False),
        )[: 2 if TINY else 3]:
            torch.backends.cudnn.allow_tf32 = tf32
            compute_in(victim, precision)
            gaps = []
            for modality in Modality:
                reference = both(twin, images, modality)
                seen = both(victim, images.to(DEVICE), modality)
                gaps += [((a - b).norm() / b.norm()).item() for a, b in zip(seen, reference, strict=True)]
            row[label] = [float(f"{gap:.2e}") for gap in gaps]
        torch.backends.cudnn.allow_tf32 = True
        compute_in(victim, Precision())
        first, second = (both(victim, images.to(DEVICE), Modality.VISIBLE)[1] for _ in range(2))
        row["same gradient twice"] = bool((first == second).all())
        found[name] = row
        say(f"{name}: relative gap of (visible embedding, gradient, infrared embedding, gradient) {row}")
    return found


def runs_of(folder: str, data, attacks, seed: int = 0, victim: str = "agw", weights=None, **how):
    """A session with records in ``folder``, and the specs of attacks on one victim."""
    from vbench.records.spec import ModelSpec, RunSpec, Setup, run_specs
    from vbench.run.session import Session

    setup = Setup(data, ModelSpec("", weights), device=DEVICE, **how)
    specs = run_specs(RunSpec(setup, "", eps="8/255", side="query"), [victim], attacks, [seed])
    return Session(WORK / folder, quiet=True), specs


def thin_runs(folder: str, attacks):
    """The built-in synthetic set and thin AGW, in float32."""
    from vbench.records.spec import DataSpec

    data = DataSpec("synthetic", "synthetic")
    return runs_of(folder, data, attacks, precision="float32", channels_last=False)


def thin_table() -> dict:
    """The README's table on the device, in float32; how far Rank-1 and mAP are from the CPU's."""
    found = {}
    session, specs = thin_runs("thin-runs", list(CPU_TABLE)[:3] if TINY else list(CPU_TABLE))
    for one in specs:
        spec = one.attack
        try:
            record = session.run(one)
        except Exception as error:
            found[spec] = f"{type(error).__name__}: {error}"
            say(f"{spec}: {found[spec]}")
            continue
        seen = 100 * record.mean("adversarial", "r1"), 100 * record.mean("adversarial", "map")
        gap = [round(a - b, 2) for a, b in zip(seen, CPU_TABLE[spec], strict=True)]
        found[spec] = {"r1": seen[0], "map": seen[1], "gap": gap, "cost": record.cost}
    say(
        "gap to the CPU, points of Rank-1 and mAP: "
        + ", ".join(f"{k} {v['gap'] if isinstance(v, dict) else v}" for k, v in found.items())
    )
    return found


def touch() -> dict:
    """Every other attack once, on a few images; what fails is named."""
    from vbench.core.types import Side
    from vbench.metrics.change import PerturbationSize
    from vbench.run.craft import Plan, craft_side

    found = {}
    session, specs = thin_runs("touch-runs", TOUCH[:4] if TINY else TOUCH)
    for one in specs:
        spec = one.attack
        if left() < 60:
            found[spec] = "skipped"
            continue
        try:
            run = session.ready(one)
            started = time.perf_counter()
            learnt, _ = run._fit(True, {})
            plan = Plan(run.attack, run.threat, 0, learnt, run._edits(learnt))
            few = Few(run.bench, 8)
            craft_side(few, Side.QUERY, plan, PerturbationSize(), quiet=True)
            found[spec] = round(time.perf_counter() - started, 2)
        except Exception as error:
            found[spec] = f"{type(error).__name__}: {error}"
            say(f"{spec}: {found[spec]}")
    bad = {k: v for k, v in found.items() if isinstance(v, str)}
    say(f"touched {len(found)} attacks, {len(bad)} did not run: {bad}")
    return found


class Few:
    """A workbench of a few queries."""

    def __init__(self, bench, count):
        self._bench, self._count = bench, count
        self.pixels = {side: pixels[:count] for side, pixels in bench.pixels.items()}

    def __getattr__(self, name):
        return getattr(self._bench, name)


def repeatable() -> dict:
    """Is a fit the same bits twice on the device? And what happens when memory runs out."""
    import torch

    found = {}
    session, specs = thin_runs("repeat-runs", ["uap[evaluations=640]", "fsam_uap[evaluations=2000]"])
    for one in specs:
        spec, run = one.attack, session.ready(one)
        digests = {run._fit(True, {})[0].digest for _ in range(2)}
        found[spec] = "same bits" if len(digests) == 1 else "different bits"
    if DEVICE.startswith("cuda"):
        victim = built("agw")
        import numpy as np

        from vbench.core.types import Modality
        from vbench.victims.embed import embed

        pixels = np.zeros((256, 288, 144, 3), dtype=np.uint8)
        torch.cuda.empty_cache()
        used = torch.cuda.memory_allocated() / torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, used + 0.006))
        try:
            embed(victim, pixels, Modality.VISIBLE, batch=256)
            found["memory short"] = "went on with smaller batches or fitted"
        except Exception as error:
            found["memory short"] = f"{type(error).__name__}: {error}"
        torch.cuda.set_per_process_memory_fraction(1.0)
    say(str(found))
    return found


def gate() -> dict:
    """The project's own gate on the device: are attacks as strong, and the victim as accurate, as on a CPU?"""
    file = Path(os.environ.get("VBENCH_SOURCE", ".")) / "tests/gate/baseline.json"
    if not file.is_file():
        return {"skipped": f"no {file}"}
    done = subprocess.run(
        [sys.executable, "-m", "vbench", "check", str(file), "--device", DEVICE, "--quiet"],
        capture_output=True,
        text=True,
        timeout=max(20, min(600 if TINY else 75, left() - 30)),
    )
    say(f"gate: exit code {done.returncode}")
    return {"code": done.returncode, "out": done.stdout[-4000:], "err": done.stderr[-2000:]}


def ranking() -> dict:
    """SYSU-size ranking, and one of a hundred thousand images; also with more distances at once."""
    import torch

    from vbench.metrics import rank_embeddings

    generator, found = torch.Generator().manual_seed(0), {}
    queries = 50 if TINY else 3803
    for gallery, chunks in ((301, (None,)), (1000 if TINY else 100_000, (None, 8 if TINY else 1024))):
        query, other = (
            torch.randn(queries, 2048, generator=generator).to(DEVICE),
            torch.randn(gallery, 2048, generator=generator).to(DEVICE),
        )
        ids = (
            torch.randint(0, 96, (queries,), generator=generator),
            torch.arange(gallery) % (96 if gallery == 301 else 10_000),
        )
        cams = (
            torch.randint(3, 7, (queries,), generator=generator),
            torch.randint(1, 3, (gallery,), generator=generator),
        )
        for chunk in chunks:
            work = lambda: rank_embeddings(query, other, ids[0], ids[1], cams[0], cams[1], chunk=chunk)  # noqa: E731
            work()
            sync()
            start = time.perf_counter()
            on_device = work()
            sync()
            found[f"{queries}x{gallery} chunk={chunk}"] = time.perf_counter() - start
        if gallery == 301:
            start = time.perf_counter()
            on_cpu = rank_embeddings(query.cpu(), other.cpu(), ids[0], ids[1], cams[0], cams[1])
            found[f"{queries}x{gallery} cpu"] = time.perf_counter() - start
            found["same mAP as the CPU"] = abs(on_cpu.mAP - on_device.mAP)
    say(str(found))
    return found


# ------------------------------------------------------------------------------------------------ training
def train() -> dict:
    """A full-size AGW from scratch, for as many epochs as the time allows; weights rounded to bfloat16."""
    import torch

    from vbench.victims.checkpoint import sha256_of, write_checkpoint
    from vbench.victims.training.batches import TrainImages, load_train_images
    from vbench.victims.training.trainer import recipe_of, train_victim

    dataset, size = drawn_set(), size_of()
    victim = built("agw", thin=TINY, classes=len(dataset.train_labels))
    if TINY:
        from vbench.victims.load import build_victim
        from vbench.victims.registry import victims

        cls = victims.load("agw")
        victim = build_victim(
            cls, num_classes=len(dataset.train_labels), device=DEVICE, **{**cls.THIN, "input_size": size}
        )
    started = time.monotonic()
    images = load_train_images(
        dataset, size, victim.resize_filter, cache_dir=WORK / "cache/images", quiet=True
    )
    found = {
        "decode seconds": time.monotonic() - started,
        "visible": len(images.visible),
        "infrared": len(images.infrared),
    }
    recipe = dataclasses.replace(
        recipe_of(victim),
        epochs=1,
        identities=4 if TINY else 16,
        instances=2 if TINY else 4,
        optimizer="adamw",
        learning_rate=1e-3,
        weight_decay=5e-4,
        schedule="cosine",
        warmup_epochs=0.0,
        milestones=(),
        head=(),
        trunk_rate=1.0,
        label_smoothing=0.1,
        padding=10 if not TINY else 2,
        erasing=0.0,
        validation=0.0,
    )
    steps = -(-max(len(images.visible), len(images.infrared)) // (recipe.identities * recipe.instances))
    # A first epoch of at most 24 batches, thrown away, says how long a step takes.
    few = 24 * recipe.identities * recipe.instances
    part = TrainImages(
        images.visible[:: max(1, len(images.visible) // few)],
        images.infrared[:: max(1, len(images.infrared) // few)],
        images.visible_labels[:: max(1, len(images.visible) // few)],
        images.infrared_labels[:: max(1, len(images.infrared) // few)],
    )
    state = {name: value.clone() for name, value in victim.state_dict().items()}
    began = time.monotonic()
    train_victim(victim, dataset, part, 0, recipe=recipe, device=DEVICE, quiet=True)
    sync()
    first = time.monotonic() - began
    began = time.monotonic()
    train_victim(victim, dataset, part, 0, recipe=recipe, device=DEVICE, quiet=True)
    sync()
    batches = -(-max(len(part.visible), len(part.infrared)) // (recipe.identities * recipe.instances))
    step = (time.monotonic() - began) / batches
    per_step = 2 * recipe.identities * recipe.instances
    found |= {
        "first pass seconds": first,
        "seconds a step": step,
        "images a step": per_step,
        "images a second": per_step / step,
        "share of bf16 peak (800 TFLOP/s)": per_step / step * 3 * GFLOP["agw"][0] / 1e3 / 800,
    }
    say(f"training: {1e3 * step:.1f} ms a step of {per_step} images")
    victim.load_state_dict(state)
    seconds = min(GIVEN.train_seconds, left() - 20)
    epochs = max(1, int(seconds / (steps * step))) if not TINY else 2
    recipe = dataclasses.replace(recipe, epochs=epochs, warmup_epochs=max(1.0, epochs / 10))
    began = time.monotonic()
    result = train_victim(victim, dataset, images, 0, recipe=recipe, device=DEVICE, quiet=True)
    found |= {
        "epochs": epochs,
        "steps an epoch": steps,
        "seconds": time.monotonic() - began,
        "history": result.history,
    }
    rounded = {
        name: value.to(torch.bfloat16).to(value.dtype) if value.is_floating_point() else value
        for name, value in victim.state_dict().items()
    }
    metadata = {**result.metadata, "sha256": sha256_of(rounded)}
    write_checkpoint(WORK / "agw.safetensors", rounded, metadata)
    back = WORK / "agw-bf16.safetensors"
    from safetensors.torch import save_file

    save_file(
        {
            n: (v.to(torch.bfloat16) if v.is_floating_point() else v).cpu().contiguous()
            for n, v in rounded.items()
        },
        back,
        {"vbench": json.dumps(metadata)},
    )
    data, pieces = back.read_bytes(), 4
    share = -(-len(data) // pieces)
    OUT.mkdir(parents=True, exist_ok=True)
    if share <= 15 << 20:
        for number in range(pieces):
            (OUT / f"agw-bf16.safetensors.{number}").write_bytes(data[number * share : (number + 1) * share])
    say(f"trained {epochs} epochs in {found['seconds']:.0f} s; last losses {result.history[-1]}")
    return found


# ------------------------------------------------------------------------------------------------ the table
def attack() -> dict:
    """One seed of the universal attacks at full size, each record kept as soon as it is done."""
    from vbench.records.spec import DataSpec, Given

    OUT.mkdir(parents=True, exist_ok=True)
    precision = GIVEN.precision or ("float32" if TINY else "bfloat16")
    half = precision != "float32"
    specs = list(UNIVERSAL)
    if TINY:
        specs = [
            "uap[evaluations=128,batch=16]",
            "cmps[evaluations=64,batch=8]",
            "fsam_uap[evaluations=256,batch=16,module_steps=2]",
        ]
    if GIVEN.seed == 0:
        specs = ["noise", *specs, *(() if TINY else ("pgd", "metric_ifgsm", "sma"))]
    session, specs = runs_of(
        "runs",
        DataSpec("drawn", Given(drawn_set())),
        specs,
        GIVEN.seed,
        weights=str(WORK / "agw.safetensors"),
        ignore_gates=True,
        precision=precision,
        channels_last=half,
    )
    found = {}
    for one in specs:
        spec = one.attack
        if left() < 20:
            found[spec] = "skipped"
            continue
        began = time.monotonic()
        try:
            record = session.run(one)
        except Exception as error:
            found[spec] = f"{type(error).__name__}: {error}"
            say(f"{spec}: {found[spec]}")
            continue
        found[spec] = {
            "clean r1": record.mean("clean", "r1"),
            "r1": record.mean("adversarial", "r1"),
            "map": record.mean("adversarial", "map"),
            "seconds": time.monotonic() - began,
            "cost": record.cost,
            "warnings": record.warnings,
        }
        say(
            f"seed {GIVEN.seed} {spec}: Rank-1 {100 * found[spec]['clean r1']:.1f} -> {100 * found[spec]['r1']:.1f}, {found[spec]['seconds']:.1f} s"
        )
        (OUT / f"attack-{GIVEN.seed}.json").write_text(json.dumps(found, default=str))
    return found


def attacks() -> dict:
    """Three seeds side by side, each in a process of its own: one alone leaves the card idle between kernels."""
    environment = {**os.environ, "OMP_NUM_THREADS": "4"}
    children = [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                "attack",
                "--out",
                str(WORK / f"seed{seed}"),
                "--work",
                str(WORK),
                "--device",
                DEVICE,
                "--deadline",
                str(left() - 20),
                "--seed",
                str(seed),
                *(["--tiny"] if TINY else []),
            ],
            env=environment,
        )
        for seed in ((0, 1) if TINY else (0, 1, 2))
    ]
    for child in children:
        try:
            child.wait(timeout=max(5, left() - 14))
        except subprocess.TimeoutExpired:
            child.terminate()
    return {path.parent.name: json.loads(path.read_text()) for path in WORK.glob("seed*/attack-*.json")}


def report() -> dict:
    """The table, the records and what was learnt, in files that come back."""
    done = subprocess.run(
        [sys.executable, "-m", "vbench", "report", "--runs", str(WORK / "runs"), "--format", "markdown"],
        capture_output=True,
        text=True,
    )
    (OUT / "table.md").write_text(done.stdout + done.stderr)
    with tarfile.open(OUT / "runs.tar.gz", "w:gz") as archive:
        archive.add(WORK / "runs", "runs")
    say("\n" + done.stdout)
    return {"code": done.returncode, "MiB": (OUT / "runs.tar.gz").stat().st_size / 2**20}


def child(name: str, *more: str) -> subprocess.Popen:
    """A phase in a process of its own, beside what this one does."""
    command = [
        sys.executable,
        __file__,
        name,
        "--out",
        str(WORK / name),
        "--work",
        str(WORK),
        "--device",
        DEVICE,
        "--deadline",
        str(left() - 5),
        *more,
    ]
    return subprocess.Popen(command + (["--tiny"] if TINY else []))


def alone(name: str) -> dict:
    """What a child phase found."""
    path = WORK / name / "results.json"
    return json.loads(path.read_text())["phases"].get(name, {}) if path.is_file() else {}


def everything() -> None:
    WORK.mkdir(parents=True, exist_ok=True)
    drawing = child("draw")
    phase("agreement", 20, agreement)
    phase("thin table", 40, thin_table)
    drawing.wait()
    RESULTS["phases"]["draw"] = alone("draw")
    say(f"drawn: {RESULTS['phases']['draw'].get('found')}")
    # From here on nothing else may run: these are timings.
    tops = phase("ceilings", 20, ceilings) or {}
    phase("profile", 20, profile)
    phase("speed", 20 if TINY else 340, speed, tops)
    phase("ranking", 20, ranking)
    training = child("train", "--train-seconds", str(min(GIVEN.train_seconds, max(30, left() - 170))))
    # Beside the training, which waits for the CPU most of the time: what needs no timing.
    phase("touch", 60, touch)
    phase("repeatable", 40, repeatable)
    phase("gate", 60, gate)
    training.wait()
    RESULTS["phases"]["train"] = alone("train")
    for path in (WORK / "train").glob("agw-bf16*"):
        shutil.copy(path, OUT)
    save()
    if (WORK / "agw.safetensors").is_file():
        phase("attacks", 40, attacks)
    if any((WORK / "runs").glob("*.json")):
        # Whatever was recorded comes back, however late it is.
        phase("report", float("-inf"), report)
    save()
    say("done; " + ", ".join(f"{k} {v.get('seconds', '-')}" for k, v in RESULTS["phases"].items()))


def failures() -> list[str]:
    """A line for each phase, and each attack or victim within one, that raised an error."""
    found = []
    for name, entry in RESULTS["phases"].items():
        inside = entry.get("found")
        inside = inside.get("found", inside) if isinstance(inside, dict) else {}
        words = {name: entry.get("error"), **(inside or {})}
        found += [f"{name}: {key}: {value}" for key, value in words.items() if "Error: " in str(value)]
    return found


if __name__ == "__main__":
    single = {
        "draw": draw,
        "agreement": agreement,
        "ceilings": ceilings,
        "profile": profile,
        "ranking": ranking,
        "train": train,
        "attack": attack,
        "attacks": attacks,
        "report": report,
        "touch": touch,
        "gate": gate,
        "thin_table": thin_table,
        "repeatable": repeatable,
    }
    if GIVEN.phase == "all":
        everything()
        if TINY:  # a rehearsal is there to find what does not work
            sys.exit("\n".join(failures()) or 0)
    elif GIVEN.phase == "speed":
        phase("speed", 0, speed, ceilings())
    else:
        phase(GIVEN.phase, 0, single[GIVEN.phase])
