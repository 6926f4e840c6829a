"""Every Python block of the pages runs as it is printed, on a tiny set; so does every file among them."""

from __future__ import annotations

import ast

import pytest
from pages import PAGES, ROOT, blocks, unknown

from vbench.attacks.base import Attack
from vbench.core.registry import import_target
from vbench.data import DatasetReader
from vbench.victims.base import Victim

BLOCKS = [block for page in PAGES for block in blocks(page)]
NOT_RUN = [block for block in BLOCKS if block.language == "python" and block.reason]
FILES = [block for block in BLOCKS if block.language == "python" and block.file]
PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind_that_something_runs_or_checks(page):
    assert [f"{block.where}: {block.language}" for block in blocks(page) if unknown(block)] == []


@pytest.mark.parametrize("page", PYTHON, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run(page, names_of):
    names_of(page)


@pytest.mark.parametrize("block", NOT_RUN, ids=lambda block: block.where)
def test_a_block_that_cannot_be_run_is_python_all_the_same(block):
    ast.parse(block.text)


@pytest.mark.parametrize("block", FILES, ids=lambda block: block.file)
def test_a_file_of_a_page_holds_a_plugin(block, at_home):
    names = [node.name for node in ast.parse(block.text).body if isinstance(node, ast.ClassDef)]
    found = [import_target(f"./{block.file}:{name}", "sample") for name in names]
    assert any(issubclass(cls, Attack | Victim | DatasetReader) for cls in found)


@pytest.mark.parametrize(
    "sample", sorted((ROOT / "tests" / "plugins").glob("*/*.py")), ids=lambda path: path.name
)
def test_a_sample_of_the_tests_is_shown_as_it_is(sample):
    assert [block.text for block in BLOCKS if block.file == sample.name] == [sample.read_text()]
