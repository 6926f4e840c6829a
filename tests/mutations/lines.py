"""Lines without which a wrong figure would appear silently, each with a test that must miss it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """``old`` becomes ``new`` in the function ``where`` ("module:name"); ``test`` must fail then."""

    what: str
    where: str
    old: str
    new: str
    test: str


CONTENT = "tests/data/test_content.py"
SOURCE = "tests/plugin_code/test_source.py"
FOUND = "tests/runner/test_found_records.py"
ROWS = "tests/isolation/test_rows.py"

LINES = (
    Line(
        "the hash of images is not part of the id",
        "vbench.data.images:data_card",
        "[shown, sample.pid,",
        "[sample.pid,",
        f"{CONTENT}::test_a_card_covers_every_fact",
    ),
    Line(
        "labels are not part of the id",
        "vbench.data.images:data_card",
        "sample.pid, sample.cam",
        "sample.cam",
        f"{CONTENT}::test_a_card_covers_every_fact",
    ),
    Line(
        "cameras are not part of the id",
        "vbench.data.images:data_card",
        "sample.pid, sample.cam,",
        "sample.pid,",
        f"{CONTENT}::test_a_card_covers_every_fact",
    ),
    Line(
        "a file's ctime is not looked at",
        "vbench.data.images:stamp_of",
        "status.st_ctime_ns",
        "0",
        f"{CONTENT}::test_a_change_that_keeps_size_and_time_is_noticed",
    ),
    Line(
        "the source of a plugin's helper is not part of the id",
        "vbench.core.source:code_card",
        "in made_of.sources.values())",
        "in made_of.sources.values() if name == cls.__module__)",
        f"{SOURCE}::test_a_helper_is_part_of_it_however_it_is_imported",
    ),
    Line(
        "a subclass passes for the class of vbench's own that it extends",
        "vbench.core.plugins:is_own_class",
        "return found is cls",
        "return True",
        f"{SOURCE}::test_a_class_that_says_it_is_vbench_s_is_not",
    ),
    Line(
        "a found record is not checked",
        "vbench.records.store:RunStore.get",
        "reason = record.fault()",
        "reason = None",
        f"{FOUND}::test_an_edited_record_is_passed_over_with_one_line",
    ),
    Line(
        "a found record may be of another configuration",
        "vbench.records.store:RunStore.get",
        "record.id != record_id",
        "False",
        f"{FOUND}::test_a_copy_under_another_id_is_neither_found_nor_overwritten",
    ),
    Line(
        "attacks are given the images themselves",
        "vbench.run.craft:Crafter.craft",
        "own.clone()",
        "own",
        f"{ROWS}::test_a_row_of_an_attack_that_works_in_place_is_that_of_one_that_does_not",
    ),
    Line(
        "attacks are given the clean embeddings themselves",
        "vbench.run.craft:Crafter._context",
        "known.embeddings[rows].to(images, copy=True)",
        "known.embeddings[rows]",
        f"{ROWS}::test_a_row_of_an_attack_that_works_in_place_is_that_of_one_that_does_not",
    ),
    Line(
        "budgets are compared on what the attack returned",
        "vbench.run.craft:_enforced",
        "shown = threat.enforce(clean, adversarial)",
        "clean, shown = adversarial, threat.enforce(adversarial, adversarial)",
        "tests/runner/test_asked.py",
    ),
    Line(
        "Euclidean distances are not centred",
        "vbench.metrics.ranking:_squared_euclidean",
        "near, far = query - centre, gallery - centre",
        "near, far = query, gallery",
        "tests/metrics/test_relations_of_rankings.py"
        "::test_the_matrix_product_alone_holds_the_digits_far_from_the_origin",
    ),
    Line(
        "seeds are not checked",
        "vbench.core.seeds:check_seed",
        "not 0 <= found < SEEDS",
        "False",
        "tests/runner/test_seeds.py::test_nothing_else_is",
    ),
    Line(
        "attacks are checked against the first victim alone",
        "vbench.run.session:Session.open",
        "if different in seen:",
        "if seen:",
        "tests/pipeline/test_upfront.py::test_the_last_victim_is_checked_against_the_last_attack_first",
    ),
)
