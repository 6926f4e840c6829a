"""Training as users rely on it: same bits for a seed, also after a kill; honest metadata; clear refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from vbench.core.errors import BadInput, VbenchError
from vbench.core.types import Modality
from vbench.data.base import Dataset, Sample, Trial
from vbench.victims.agw import AGW
from vbench.victims.base import Victim
from vbench.victims.checkpoint import read_checkpoint, sha256_of
from vbench.victims.load import load_victim
from vbench.victims.training.batches import TrainImages
from vbench.victims.training.trainer import state_path, train_victim

IDS, PER_ID, SIZE = 10, 4, (32, 16)


def fake_dataset():
    """Ten training identities with pids 5, 15, ...; test identities 1 and 2 that no file exists for."""

    def samples(modality, cams):
        return tuple(
            Sample(f"{modality.value}/{pid}/{shot}.jpg", pid, cams[shot % 2], modality)
            for pid in range(5, 5 + 10 * IDS, 10)
            for shot in range(PER_ID)
        )

    test = {modality: (Sample("absent.jpg", 1, 1, modality),) for modality in Modality}
    return Dataset(
        name="sysu",
        root=Path("absent"),
        protocol="sysu/all/single/ir2vis/seed10",
        metric="sysu",
        split="sysu",
        synthetic=True,
        train_visible=samples(Modality.VISIBLE, (1, 4)),
        train_infrared=samples(Modality.INFRARED, (3, 6)),
        query=test[Modality.INFRARED],
        gallery=test[Modality.VISIBLE],
        trials=(Trial("1", np.array([0]), np.array([0])),),
    )


def fake_images():
    """Random patches per identity, the same in both modalities up to noise and, in infrared, colour."""
    rng = np.random.default_rng(0)
    textures = rng.integers(0, 256, (IDS, 1, 4, 2, 3)).repeat(8, axis=2).repeat(8, axis=3)
    noisy = np.clip(textures + rng.normal(0, 25, (IDS, PER_ID, *SIZE, 3)), 0, 255)
    grey = np.repeat(noisy.mean(axis=-1, keepdims=True), 3, axis=-1)
    labels = np.repeat(np.arange(IDS), PER_ID)
    return TrainImages(
        noisy.reshape(-1, *SIZE, 3).astype(np.uint8),
        grey.reshape(-1, *SIZE, 3).astype(np.uint8),
        labels,
        labels,
    )


def fresh_victim(**options):
    defaults = {
        "num_classes": IDS,
        "input_size": SIZE,
        "width": 0.0625,
        "blocks": (1, 1, 1, 1),
        "small_stem": True,
        "generator": torch.Generator().manual_seed(3),
    }
    return AGW(**{**defaults, **options})


RECIPE = dataclasses.replace(
    fresh_victim().recipe(), epochs=4, warmup_epochs=1, identities=4, validation=0.2, flip=0.0, padding=1
)


def train(out=None, victim=None, images=None, seed=1, **options):
    victim = victim or fresh_victim()
    settings = {"recipe": RECIPE, "quiet": True, "device": "cpu", **options}
    return victim, train_victim(victim, fake_dataset(), images or fake_images(), seed, out=out, **settings)


def test_training_learns_identities_it_sees():
    victim, result = train(epochs=12)
    first, last = result.history[0], result.history[-1]
    assert last["identity"] < 0.8 * first["identity"]
    assert last["triplet"] < first["triplet"]
    images = fake_images()
    kept = ~np.isin(images.infrared_labels, [pid // 10 for pid in result.metadata["held_out_pids"]])
    pixels = torch.from_numpy(images.infrared[kept]).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        predicted = victim(pixels, Modality.INFRARED).logits.argmax(1).numpy()
    assert (predicted == images.infrared_labels[kept]).mean() > 0.6
    assert not victim.training


def test_same_seed_same_bits_and_another_seed_others():
    state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first, second, other = (train(seed=seed)[0] for seed in (1, 1, 2))
    assert sha256_of(first.state_dict()) == sha256_of(second.state_dict())
    assert sha256_of(first.state_dict()) != sha256_of(other.state_dict())
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002


KILLED = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    import torch
    torch.set_num_threads(1)
    import vbench.victims.training.trainer as trainer
    from test_trainer import train
    real, calls = trainer._update, []
    def update(*arguments):
        calls.append(1)
        if len(calls) == 13:  # in the middle of the third epoch
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments)
    trainer._update = update
    train(Path(sys.argv[2]))
"""


def test_killed_and_resumed_run_ends_with_the_same_bytes(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        undisturbed, killed = tmp_path / "a" / "w.safetensors", tmp_path / "b" / "w.safetensors"
        _, whole = train(undisturbed)
        code = textwrap.dedent(KILLED)
        command = [sys.executable, "-c", code, str(Path(__file__).parent), str(killed)]
        process = subprocess.run(command, check=False, env=os.environ, capture_output=True)
        assert process.returncode == -signal.SIGKILL, process.stderr.decode()
        assert not killed.exists()
        assert state_path(killed).is_file()
        _, resumed = train(killed)
    finally:
        torch.set_num_threads(threads)
    assert resumed.history == whole.history
    for suffix in (".safetensors", ".json", ".csv"):
        assert killed.with_suffix(suffix).read_bytes() == undisturbed.with_suffix(suffix).read_bytes()
    assert sorted(path.suffix for path in killed.parent.iterdir()) == [".csv", ".json", ".safetensors"]


def test_resume_really_starts_at_the_stored_epoch(tmp_path, monkeypatch):
    out = tmp_path / "w.safetensors"
    import vbench.victims.training.trainer as trainer

    real = trainer._update
    seen = []

    def update(victim, optimizer, images, step, *rest):
        seen.append(step.epoch)
        if len(seen) == 12:
            raise KeyboardInterrupt
        return real(victim, optimizer, images, step, *rest)

    monkeypatch.setattr(trainer, "_update", update)
    with pytest.raises(KeyboardInterrupt):
        train(out)
    interrupted = seen[-1]
    assert interrupted > 0
    train(out)
    assert seen[12] == interrupted


def test_state_of_another_run_is_refused_unless_told_to_start_over(tmp_path):
    out = tmp_path / "w.safetensors"
    state_path(out).write_bytes(b"nonsense")
    with pytest.raises(BadInput, match="not the state of a training run"):
        train(out)
    torch.save(
        {"fingerprint": "other", "epochs_done": 1, "model": {}, "optimizer": {}, "history": "[]"},
        state_path(out),
    )
    with pytest.raises(BadInput, match="other settings or data"):
        train(out)
    train(out, resume=False)
    assert out.is_file()


def test_weights_file_tells_where_it_comes_from_and_loads(tmp_path):
    out = tmp_path / "deep" / "agw.safetensors"
    victim, result = train(out)
    metadata = json.loads(out.with_suffix(".json").read_text())
    assert metadata == read_checkpoint(out).metadata == json.loads(json.dumps(result.metadata))
    expected = {
        "victim": "agw",
        "dataset": "sysu",
        "synthetic": True,
        "protocol": "sysu/all/single/ir2vis/seed10",
        "split": "sysu",
        "epoch": 4,
        "seed": 1,
        "selection": "last epoch",
    }
    assert {name: metadata[name] for name in expected} == expected
    assert metadata["sha256"] == sha256_of(victim.state_dict())
    again = load_victim("agw", out, device="cpu")
    assert again.describe() == victim.describe()
    assert sha256_of(again.state_dict()) == sha256_of(victim.state_dict())
    with out.with_suffix(".csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert all(float(row["identity"]) > 0 for row in rows)


def test_validation_identities_are_training_ones_that_no_batch_shows(monkeypatch):
    import vbench.victims.training.trainer as trainer

    real, shown = trainer._update, set()

    def update(victim, optimizer, images, step, *rest):
        shown.update(step.labels.tolist())
        return real(victim, optimizer, images, step, *rest)

    monkeypatch.setattr(trainer, "_update", update)
    _, result = train()
    held = {pid // 10 for pid in result.metadata["held_out_pids"]}
    assert len(held) == 2
    assert not held & shown
    assert held | shown == set(range(IDS))
    assert result.metadata["validation"]["identities"] == 2
    assert result.metadata["validation"]["query"] == 2 * PER_ID
    assert 0 <= result.metadata["validation"]["mAP"] <= 100


@pytest.mark.slow
def test_every_training_setting_changes_the_outcome():
    changes = {
        "identities": 5, "instances": 3, "optimizer": "sgd", "learning_rate": 1e-3, "weight_decay": 0.5,
        "schedule": "step", "warmup_epochs": 2, "head": ("classifier",), "label_smoothing": 0.3, "flip": 0.5,
        "padding": 3, "erasing": 0.9, "erasing_area": (0.3, 0.4),
        "validation": 0.4,
    }  # fmt: skip
    base = dataclasses.replace(RECIPE, trunk_rate=0.5)
    seen = {sha256_of(train(recipe=base, epochs=1)[0].state_dict())}
    for name, value in changes.items():
        changed = dataclasses.replace(base, **{name: value})
        seen.add(sha256_of(train(recipe=changed, epochs=1)[0].state_dict()))
    assert len(seen) == 1 + len(changes)


def test_without_validation_share_all_identities_are_trained_on():
    _, result = train(recipe=dataclasses.replace(RECIPE, validation=0.0))
    assert result.metadata["held_out_pids"] == []
    assert result.metadata["validation"] is None


def test_mismatched_data_is_refused():
    with pytest.raises(BadInput, match="built for 9 identities, the training set of sysu has 10"):
        train(victim=fresh_victim(num_classes=9))
    with pytest.raises(BadInput, match="training images are 32x16, victim 'agw' takes 64x32"):
        train(victim=fresh_victim(input_size=(64, 32)))
    with pytest.raises(BadInput, match="at least 1 epoch"):
        train(epochs=0)
    with pytest.raises(BadInput, match="safetensors"):
        train(Path("weights.pt"))
    with pytest.raises(BadInput, match="needs 50 identities"):
        train(recipe=dataclasses.replace(RECIPE, identities=50))
    with pytest.raises(BadInput, match="uint8"):
        images = fake_images()
        dataclasses.replace(images, visible=images.visible / 255)


def test_victim_without_a_recipe_is_refused():
    class Fixed(Victim):
        name = "fixed"

        def forward(self, images, modality, edits=None):
            raise NotImplementedError

    with pytest.raises(BadInput, match="declares no training recipe"):
        train(victim=Fixed())


class Tied(AGW):
    """Its neck stands in the state dict twice, and a buffer is a view of another one."""

    def __init__(self, **options):
        super().__init__(**options)
        self.same_neck = self.neck
        self.register_buffer("part", self.neck.running_mean[:3])


def test_a_victim_of_shared_tensors_is_saved_as_it_was_trained(tmp_path):
    options = fresh_victim().describe()
    out = tmp_path / "w.safetensors"
    recipe = dataclasses.replace(RECIPE, epochs=1)
    victim, result = train(out, Tied(**options), recipe=recipe)
    assert sha256_of(read_checkpoint(out).state) == result.metadata["sha256"]
    assert sha256_of(read_checkpoint(out).state) == sha256_of(victim.state_dict())


def test_what_could_not_be_saved_is_refused_before_training(tmp_path):
    class Wide(AGW):
        def training_losses(self, batch):
            raise AssertionError("trained")

    for dtype, reason in ((torch.complex128, "cannot hold all of"), (None, "is no tensor but a dict")):
        victim = Wide(**fresh_victim().describe())
        if dtype is None:
            Wide.get_extra_state = lambda self: {"scale": 1}
        else:
            victim.register_buffer("odd", torch.ones(1, dtype=dtype))
        with pytest.raises(BadInput, match=reason):
            train(tmp_path / "w.safetensors", victim)
    assert not list(tmp_path.iterdir())


def test_divergence_is_reported_with_its_place():
    with pytest.raises(VbenchError, match="not finite in epoch"):
        train(recipe=dataclasses.replace(RECIPE, optimizer="sgd", learning_rate=1e30))


def test_validation_works_where_training_lists_record_no_camera(tmp_path):
    """LLCM's training images have no camera; "same identity and camera" must not remove every match."""
    from vbench.data import open_dataset
    from vbench.data.synthetic import write_dataset
    from vbench.victims.agw import AGW
    from vbench.victims.training.batches import load_train_images
    from vbench.victims.training.trainer import validate

    root = write_dataset("llcm", tmp_path / "llcm", ids=4, seed=0, size=(32, 16), test_ids=2, quiet=True)
    dataset = open_dataset("llcm", root)
    victim = AGW(num_classes=4, **{**AGW.THIN, "input_size": (32, 16)})
    images = load_train_images(dataset, (32, 16), quiet=True)
    found = validate(victim, dataset, images, held_out=(0, 1))
    assert found["query"] == (images.infrared_labels < 2).sum()
    assert 0 < found["mAP"] <= 100
