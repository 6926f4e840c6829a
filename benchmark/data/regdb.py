"""RegDB in its published folder layout (Nguyen et al., Sensors 2017)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vbench.core.types import Modality
from vbench.data.base import Dataset, DatasetReader, Sample, Trial, layout_dataset, published_counts
from vbench.data.lists import (
    Line,
    first_training_pid,
    one_sided_note,
    read_list,
    refuse_shared_images,
    training_samples,
)
from vbench.data.protocols import all_protocols, parse_protocol

#: RegDB calls infrared "thermal". There are no camera numbers: 1 stands for visible, 2 for infrared.
_WORDS = {Modality.VISIBLE: "visible", Modality.INFRARED: "thermal"}
CAMERA = {Modality.VISIBLE: 1, Modality.INFRARED: 2}


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


class RegDB(DatasetReader):
    """RegDB: visible and thermal images of 412 identities, ten splits."""

    name, version = "regdb", 1
    paper = (
        "Nguyen et al., Person Recognition System Based on a Combination of Body Images from Visible Light "
        "and Thermal Cameras, Sensors 2017"
    )
    summary = "RegDB: visible and thermal images of 412 identities, ten splits"
    protocols = tuple(all_protocols("regdb"))
    expected = "the images and idx/{train,test}_{visible,thermal}_{1..10}.txt"
    #: The ten published splits.
    published = published_counts((206, 206), (2060, 2060), (2060, 2060))

    def read(self, root: Path, protocol: str) -> Dataset:
        """Read one of RegDB's ten splits; its single trial ranks all test images of both modalities.

        A test pid is the label in the list, a training pid the label + :func:`first_training_pid`: both
        number their identities from 0 on, and the identities differ. Raises as :func:`read_lists`.
        """
        parsed = parse_protocol(protocol)
        trial = parsed.trial
        assert trial is not None, "every protocol of RegDB names one"
        lists = read_lists(root, trial)
        first = first_training_pid(line.label for m in Modality for line in lists["test", m])
        train = {m: training_samples(lists["train", m], CAMERA[m], m, first) for m in Modality}
        test = {
            m: tuple(Sample(line.path, line.label, CAMERA[m], m) for line in lists["test", m])
            for m in Modality
        }
        asked = Modality.VISIBLE if parsed.direction == "vis2ir" else Modality.INFRARED
        query, gallery = test[asked], test[asked.other]
        notes = one_sided_note("training", *train.values()) + one_sided_note("test", *test.values())
        trials = (Trial(f"trial-{trial}", np.arange(len(query)), np.arange(len(gallery))),)
        split = f"regdb/trial-{trial}"
        return layout_dataset("regdb", root, protocol, train, (query, gallery, trials), notes, split)
