"""RegDB in its published folder layout (Nguyen et al., Sensors 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vbench.core.types import Modality
from vbench.data.base import Dataset, Sample, Trial
from vbench.data.lists import (
    Line,
    first_training_pid,
    one_sided_note,
    read_list,
    refuse_shared_images,
    training_samples,
)
from vbench.data.protocols import Protocol

#: RegDB calls infrared "thermal". There are no camera numbers: 1 stands for visible, 2 for infrared.
_WORDS = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
CAMERA = {Modality.VISIBLE: 1, Modality.INFRARED: 2}
EXPECTED = "the images and idx/{train,test}_{visible,thermal}_{1..10}.txt"


def list_name(split: str, modality: Modality, trial: int) -> str:
    """Name of a list file: ``split`` is "train" or "test", ``trial`` 1 .. 10."""
    return f"idx/{split}_{_WORDS[modality]}_{trial}.txt"


def read_lists(root: Path, trial: int) -> dict[tuple[str, Modality], list[Line]]:
    """The four lists of a trial, by split ("train", "test") and modality.

    Raises :class:`BadInput`, naming file and line, for a malformed list or an image in two of them.
    """
    lists = {
        (split, modality): read_list(root, list_name(split, modality, trial))
        for split in ("train", "test")
        for modality in Modality
    }
    refuse_shared_images(root, {list_name(*key, trial): lines for key, lines in lists.items()})
    return lists


def read_regdb(root: Path, protocol: Protocol, synthetic: bool = False) -> Dataset:
    """Read one of RegDB's ten splits; its single trial ranks all test images of both modalities.

    A test pid is the label in the list, a training pid the label + :func:`first_training_pid`: both lists
    number their identities from 0 on, and the identities differ. Raises as :func:`read_lists`.
    """
    trial = protocol.trial
    assert trial is not None, "every protocol of RegDB has one"
    lists = read_lists(root, trial)
    first = first_training_pid(line.label for m in Modality for line in lists["test", m])
    train = {m: training_samples(lists["train", m], CAMERA[m], m, first) for m in Modality}
    test = {
        m: tuple(Sample(line.path, line.label, CAMERA[m], m) for line in lists["test", m]) for m in Modality
    }
    query_modality = Modality.VISIBLE if protocol.direction == "vis2ir" else Modality.INFRARED
    query, gallery = test[query_modality], test[query_modality.other]
    notes = one_sided_note("training", *train.values()) + one_sided_note("test", *test.values())
    return Dataset(
        name="regdb",
        root=root,
        protocol=str(protocol),
        metric="regdb",
        split=f"regdb/trial-{trial}",
        synthetic=synthetic,
        train_visible=train[Modality.VISIBLE],
        train_infrared=train[Modality.INFRARED],
        query=query,
        gallery=gallery,
        trials=(Trial(f"trial-{trial}", np.arange(len(query)), np.arange(len(gallery))),),
        notes=tuple(notes),
    )
