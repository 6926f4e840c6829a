# named_files.py
"""A data set of files named like 0042_c3_0007.jpg, in train and test folders of each modality."""

import re

import numpy as np

from vbench import BadInput, Modality
from vbench.data import Dataset, DatasetReader, Sample, Trial

NAME = re.compile(r"(\d+)_c(\d+)_\w+\.(jpg|png)")


class NamedFiles(DatasetReader):
    name = "named"
    summary = "files named after identity and camera"
    expected = "train/visible, train/infrared, test/visible and test/infrared"
    protocols = ("named/ir2vis", "named/vis2ir")

    def read(self, root, protocol):
        train = {modality: samples(root, "train", modality) for modality in Modality}
        test = {modality: samples(root, "test", modality) for modality in Modality}
        asked = Modality.INFRARED if protocol == "named/ir2vis" else Modality.VISIBLE
        query, gallery = test[asked], test[asked.other]
        return Dataset(
            name=self.name,
            root=root,
            protocol=protocol,
            metric="llcm",  # hides gallery images of the query's own identity and camera
            split="named",
            synthetic=False,
            train_visible=train[Modality.VISIBLE],
            train_infrared=train[Modality.INFRARED],
            query=query,
            gallery=gallery,
            trials=(Trial("all", np.arange(len(query)), np.arange(len(gallery))),),
        )


def samples(root, part, modality):
    found = []
    for file in sorted((root / part / modality.value).glob("*.*")):
        match = NAME.fullmatch(file.name)
        if not match:
            raise BadInput(f"{file}: the name should be like 0042_c3_0007.jpg")
        path = file.relative_to(root).as_posix()
        found.append(Sample(path, int(match[1]), int(match[2]), modality))
    return tuple(found)
