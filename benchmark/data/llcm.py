"""LLCM in its published folder layout (Zhang and Wang, CVPR 2023)."""

from __future__ import annotations

from pathlib import Path

from vbench.core.errors import BadInput
from vbench.core.types import Modality
from vbench.data.base import Dataset, DatasetReader, Sample, layout_dataset, published_counts
from vbench.data.lists import (
    Camera,
    Line,
    Shots,
    absence_notes,
    draw_galleries,
    first_training_pid,
    index_galleries,
    missing_images,
    one_sided_note,
    read_folders,
    read_ids,
    read_list,
    refuse_shared_images,
    stray_note,
    training_samples,
)
from vbench.data.protocols import all_protocols, parse_protocol

CAMERAS = {
    Modality.VISIBLE: tuple(
        Camera(f"test_vis/cam{number}", number, Modality.VISIBLE) for number in range(1, 10)
    ),
    # The set has no infrared camera 3.
    Modality.INFRARED: tuple(
        Camera(f"test_nir/cam{number}", number, Modality.INFRARED) for number in (1, 2, 4, 5, 6, 7, 8, 9)
    ),
}
TRAIN_LISTS = {Modality.VISIBLE: "idx/train_vis.txt", Modality.INFRARED: "idx/train_nir.txt"}
TEST_IDS = "idx/test_id.txt"

#: Camera number of training images; no protocol uses their cameras.
_NO_CAMERA = 0


def read_train(root: Path) -> dict[Modality, list[Line]]:
    """The two training lists by modality.

    Raises :class:`BadInput`, naming file and line, for a malformed list or an image in both.
    """
    lines = {modality: read_list(root, name) for modality, name in TRAIN_LISTS.items()}
    refuse_shared_images(root, {TRAIN_LISTS[modality]: lines[modality] for modality in lines})
    return lines


def train_samples(lines: dict[Modality, list[Line]], pids: list[int]) -> dict[Modality, tuple[Sample, ...]]:
    """Samples of the training lists: pids that no test identity has, camera 0 (not recorded)."""
    first = first_training_pid(pids)
    return {modality: training_samples(lines[modality], _NO_CAMERA, modality, first) for modality in Modality}


def read_test(root: Path, pids: list[int]) -> dict[Modality, Shots]:
    """All test images by modality, whether a protocol uses them or not."""
    return {modality: read_folders(root, pids, CAMERAS[modality]) for modality in Modality}


class LLCM(DatasetReader):
    """LLCM: nine cameras by day and night, in low light."""

    name, version = "llcm", 1
    paper = (
        "Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for "
        "Visible-Infrared Person Re-identification, CVPR 2023"
    )
    summary = "LLCM: nine cameras by day and night, in low light"
    protocols = tuple(all_protocols("llcm"))
    expected = "idx/train_vis.txt, idx/train_nir.txt, idx/test_id.txt, test_vis/ and test_nir/"
    #: Zhang and Wang 2023.
    published = published_counts((713, 351), (16946, 13975), (8680, 7166))

    def read(self, root: Path, protocol: str) -> Dataset:
        """Read LLCM in one direction.

        Training pids are as of :func:`first_training_pid`, training cameras 0 (not recorded); a test pid is
        the number of its folder. Every test image of one modality is a query; each of the ten galleries holds
        one image per test id and camera of the other. (The owner's released script for visible-to-infrared
        swaps these roles; this does not.) Raises :class:`BadInput` for a broken list, a training image among
        the test images, or when no query or gallery image is left.
        """
        parsed = parse_protocol(protocol)
        pids = read_ids(root, TEST_IDS)
        lines = read_train(root)
        test = read_test(root, pids)
        refuse_leak(root, lines, test)
        train = train_samples(lines, pids)
        asked = Modality.VISIBLE if parsed.direction == "vis2ir" else Modality.INFRARED
        query, candidates = test[asked], test[asked.other]
        for side, modality in (("query", asked), ("gallery", asked.other)):
            if not test[modality].groups:
                folder = CAMERAS[modality][0].folder.split("/")[0]
                where = f"no identity of {TEST_IDS} has images under {folder}/"
                raise BadInput(f"{root}: {missing_images(side, where, test[modality].strays)}")
        galleries = draw_galleries(candidates.groups, parsed.shots_per_camera)
        gallery, trials = index_galleries(galleries, candidates.samples, len(query.samples))
        notes = one_sided_note("training", *train.values())
        for modality, shots in test.items():
            notes += absence_notes("test", pids, CAMERAS[modality], shots.samples)
        notes += stray_note([stray for shots in test.values() for stray in shots.strays])
        return layout_dataset("llcm", root, protocol, train, (query.samples, gallery, trials), notes)


def refuse_leak(root: Path, train: dict[Modality, list[Line]], test: dict[Modality, Shots]) -> None:
    """Raise :class:`BadInput`, naming file and line, if a training image is among the test images."""
    tested = {sample.path for shots in test.values() for sample in shots.samples}
    for modality, lines in train.items():
        for line in lines:
            if line.path in tested:
                where = f"{root / TRAIN_LISTS[modality]}, line {line.number}"
                raise BadInput(f"{where}: {line.path} is a test image; training and test must not overlap")
