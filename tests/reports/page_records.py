"""Records as runs would store them, with every field filled, for tests of pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from test_tables import trials

from vbench.core.types import Modality, Side
from vbench.records.files import IMAGES_FORMAT, ImagesMeta, KeptImages, kept_file
from vbench.records.record import IDENTITY, CompressedArray, ControlRecord, Record, config_id
from vbench.reports.page import page_of
from vbench.victims.registry import VICTIMS

IR2VIS = "sysu/all/single/ir2vis/seed10"
ENVIRONMENT = {
    "versions": {"python": "3.11.7", "vbench": "0.1.0", "torch": "2.4.0"},
    "device": "cpu",
    "device_name": "x86_64",
    "threads": 1,
    "platform": "Linux",
    "precision": "float32",
}


def run(
    attack: str = "pgd",
    after: float = 0.4,
    seed: int = 0,
    victim: str = "agw",
    eps: str = "8/255",
    side: str = "query",
    synthetic: bool = True,
    settings: dict | None = None,
    label: str = "",
    **more,
) -> Record:
    """A run of a thin victim on the built-in set, or of a full one on real data."""
    options = {"num_classes": 400, "input_size": [64, 32], **VICTIMS[victim].thin}
    if not synthetic:
        options = {"num_classes": 395, "input_size": [288, 144], **VICTIMS[victim].full}
    levels, whole = (int(part) for part in eps.split("/"))
    config = {
        "identity": IDENTITY,
        "victim": {"name": victim, "options": options, "weights": f"{victim:0<16}"},
        "dataset": {
            "name": "sysu",
            "protocol": IR2VIS,
            "split": "sysu",
            "synthetic": synthetic,
            "training": "5065536536aad7f1",
            "fingerprint": "145805324e06bee2" if synthetic else "00aa11bb22cc33dd",
        },
        "attack": {"name": attack, "settings": settings or {}},
        "threat": {"norm": "linf", "eps": eps, "eps_value": levels / whole, "side": side, "quantize": True},
        "seed": seed,
        "perturbation": None,
    }
    given = {
        "created": f"2026-11-0{seed % 9 + 1}T10:00:00+00:00",
        "size": {"linf_levels": 8.0, "l2": 2.4, "psnr_db": 30.2, "ssim": 0.88, "changed_share": 0.99},
        "cost": {"evaluations_per_image": 10.0, "attack_evaluations": 2880.0, "attack_seconds": 3.5},
        "environment": ENVIRONMENT,
        "asr": 0.6,
        "drop_interval": {"r1": (0.8 - after - 0.05, 0.8 - after + 0.05)},
    }
    made = Record(
        id=config_id(config),
        config=config,
        label=label or attack,
        victim_label=victim,
        protocol=IR2VIS,
        synthetic=synthetic,
        clean=trials(0.8),
        adversarial=trials(after),
        **{**given, **more},
    )
    made.seal()
    return made


def with_queries(record: Record, queries: int = 60, count: int = 4, seed: int = 0) -> Record:
    """The same record with values of single queries that an attack made worse."""
    draw = np.random.default_rng(seed)
    before = draw.integers(1, 4, (count, queries))
    after = before + draw.integers(0, 30, (count, queries))
    absent = draw.random(queries) < 0.1
    before[:, absent] = after[:, absent] = 0
    arrays = {"clean_rank": before, "adversarial_rank": after}
    for name, rank in (("clean_ap", before), ("adversarial_ap", after)):
        arrays[name] = np.where(rank > 0, 1 / np.maximum(rank, 1), np.nan).astype("<f4")
    record.per_query = {name: CompressedArray.pack(array) for name, array in arrays.items()}
    record.seal()
    return record


def study() -> list[Record]:
    """Ten runs: two budgets, two victims, seeds, controls, transfer, real data, warnings."""
    controls = [ControlRecord(name="modules, d = 0", trials=trials(0.7))]
    learnt = {"universal": True, "knowledge": ["training"]}
    fit = {"fit_evaluations": 6400.0, "fit_seconds": 12.0, "attack_seconds": 0.1}
    found = [
        run("noise", 0.78, knowledge=[]),
        run("pgd", 0.09, warnings=["10.0% of queries hang on a tie"]),
        run("uap", 0.3, seed=0, cost=fit, **learnt),
        run("uap", 0.5, seed=1, cost=fit, **learnt),
        run("fsam_uap", 0.2, level="feature", stealthy=True, controls=controls, cost=fit, **learnt),
        run("pgd", 0.35, eps="4/255"),
        run("pgd", 0.25, victim="ddag"),
        run("metric_ifgsm", 0.6, surrogate="ddag", knowledge=["training"]),
        run("odfa", 0.1, synthetic=False, knowledge=["gallery"]),
        run("pgd", 0.4, synthetic=False, warnings=["10.0% of queries hang on a tie"]),
    ]
    return [with_queries(record, seed=index) for index, record in enumerate(found)]


def with_images(folder: Path) -> list[Record]:
    """Two runs, the second with images kept under ``folder``: two queries, and a gallery of three."""
    plain, record = with_queries(run("noise", 0.7)), with_queries(run("pgd", 0.1))
    meta = ImagesMeta(
        format=IMAGES_FORMAT,
        record=record.id,
        created=record.created,
        digest=record.digest,
        trial="seed-0",
        rule="sysu",
        modality={Side.QUERY: Modality.INFRARED, Side.GALLERY: Modality.VISIBLE},
        attacked=[Side.QUERY],
        chosen=["worst", "random"],
        rounded=False,
    )
    # Smooth, so that JPEG leaves them nearly as they are.
    ramp = np.linspace(40, 210, 300)[:, None, None] * np.ones((1, 100, 3))
    clean = {Side.QUERY: np.stack([ramp, ramp[::-1]]), Side.GALLERY: np.stack([ramp] * 3)}
    clean = {side: images.astype(np.uint8) for side, images in clean.items()}
    KeptImages(
        meta,
        clean,
        clean | {Side.QUERY: 255 - clean[Side.QUERY]},
        ids={Side.QUERY: np.array([7, 8]), Side.GALLERY: np.array([7, 8, 9])},
        cams={side: np.zeros(len(images), int) for side, images in clean.items()},
        position={Side.QUERY: np.array([3, 11]), Side.GALLERY: np.arange(3)},
        before=np.array([[0, 1, 2], [1, 0, 2]]),
        after=np.array([[2, 1, 0], [0, 1, 2]]),
        match=np.array([0, 1]),
        rank=np.array([[1, 3], [1, 2]]),
        precision=np.array([[1.0, 0.333], [1.0, 0.5]]),
    ).write(kept_file(folder, record.id, "images"))
    return [plain, record]


def page_text(records: list[Record], figures: bool = False, **more) -> str:
    """The page, without figures unless a test is about them: drawing takes its time."""
    return page_of(records, figures=figures, **more)
