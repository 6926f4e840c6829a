"""What must hold for every built-in data set: a new one is tested by being listed in the catalogue."""

from __future__ import annotations

import json

import pytest

from vbench.core.errors import BadInput
from vbench.data import open_dataset, registry
from vbench.data.protocols import LAYOUTS, all_protocols
from vbench.data.registry import DATASETS, datasets
from vbench.data.verify import verify


def test_the_catalogue_is_what_the_classes_declare():
    assert json.loads(registry.FILE.read_text()) == registry.declarations(), "run: make catalogue"


@pytest.fixture(params=list(DATASETS))
def name(request):
    return request.param


def test_it_is_listed_and_its_protocols_carry_its_name(name):
    reader, entry = datasets.load(name), datasets.entry(name)
    assert (entry.name, entry.summary, entry.origin) == (reader.name, reader.summary, "vbench")
    assert reader.protocols and len(set(reader.protocols)) == len(reader.protocols)
    assert all(protocol.startswith(f"{name}/") for protocol in reader.protocols)
    assert name not in LAYOUTS or list(reader.protocols) == all_protocols(name)


@pytest.mark.parametrize("read", [open_dataset, verify])
def test_a_folder_that_is_not_the_set_gets_one_line(name, tmp_path, read):
    with pytest.raises(BadInput, match="expects a folder with"):
        read(name, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput) as caught:
        open_dataset(name, tmp_path / "empty")
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
