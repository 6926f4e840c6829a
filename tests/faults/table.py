"""The fault table: what can go wrong, what is done about it in a test, what must come of it, and where."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """``kind``: one of :data:`KINDS`; ``tests``: ids under ``tests/``, the quick ones first."""

    kind: str
    done: str
    expected: str
    tests: tuple[str, ...]


#: Every kind has a fault whose test is not slow.
KINDS = (
    "kill -9",
    "full disk",
    "read-only folder",
    "images",
    "missing camera",
    "ids without images",
    "duplicate ids",
    "label gaps",
    "corrupted record",
    "corrupted cache",
    "not finite",
    "out of memory",
    "clock",
    "two writers",
)

_KILLS, _DISKS, _IMAGES = "faults/test_kills.py::", "faults/test_disks.py::", "faults/test_images.py::"
_CACHES, _SWEEPS, _RECORDS = "faults/test_caches.py::", "faults/test_sweep.py::", "faults/test_records.py::"
_SYSU, _REGDB, _LOAD = (
    "data/test_sysu_reader.py::",
    "data/test_regdb_reader.py::",
    "data/test_load_images.py::",
)
_COMMAND, _LOCAL = "pipeline/test_command_line.py::", "pipeline/test_sweep_local.py::"

FAULTS = (
    Fault(
        "kill -9",
        "run: while a record, or what belongs to it, is being written",
        "no half record; the rerun ends with the record of an undisturbed run",
        (
            _KILLS + "test_a_run_killed_while_it_writes_ends_as_if_it_had_not_been",
            _KILLS + "test_a_run_killed_after_any_file_ends_as_if_it_had_not_been",
        ),
    ),
    Fault(
        "kill -9",
        "run: between two records",
        "finished records stay, the rerun does the others",
        (_COMMAND + "test_kill_9_loses_at_most_the_run_in_flight",),
    ),
    Fault(
        "kill -9",
        "run, train and sweep: at random moments, twenty times",
        "no half record at any time; one rerun ends with the bytes of an undisturbed run",
        (
            _KILLS + "test_random_kills_of_a_run",
            _KILLS + "test_random_kills_of_training",
            _KILLS + "test_random_kills_of_a_sweep",
        ),
    ),
    Fault(
        "kill -9",
        "train: in the middle of an epoch",
        "goes on after the last whole epoch to the same bytes",
        ("train/test_trainer.py::test_killed_and_resumed_run_ends_with_the_same_bytes",),
    ),
    Fault(
        "kill -9",
        "sweep: a worker",
        "its run fails by name, the rerun does it",
        (_LOCAL + "test_a_killed_worker_costs_its_run_and_a_rerun_completes_the_sweep",),
    ),
    Fault(
        "kill -9",
        "sweep: the process in charge",
        "its workers end, the rerun completes the sweep",
        (_LOCAL + "test_killing_the_one_in_charge_ends_its_workers_and_loses_nothing",),
    ),
    Fault(
        "kill -9",
        "while images are decoded into the cache, or a synthetic set is drawn",
        "what is left is overwritten or removed",
        (
            _LOAD + "test_what_a_killed_process_left_is_overwritten",
            _CACHES + "test_what_a_killed_process_left_of_a_set_is_removed",
        ),
    ),
    Fault(
        "full disk",
        "the system refuses after so many bytes: in the cache, in the record, in a kept file",
        "one line, exit 1, no part of a file; the same command then ends as usual",
        (
            _DISKS + "test_a_disk_that_fills_up_costs_nothing_but_the_run",
            _DISKS + "test_a_disk_that_fills_up_during_training_is_one_line",
        ),
    ),
    Fault(
        "full disk",
        "a tmpfs of 64 KiB to a megabyte for runs, cache and weights",
        "one line, exit 1; with room again the same command ends as usual",
        (
            _DISKS + "test_run_on_a_small_tmpfs",
            _DISKS + "test_train_on_a_small_tmpfs",
            _DISKS + "test_sweep_on_a_small_tmpfs",
        ),
    ),
    Fault(
        "full disk",
        "standard output is /dev/full",
        "one line, exit 1; the record is kept",
        (_DISKS + "test_a_full_standard_output_is_one_line",),
    ),
    Fault(
        "read-only folder",
        "runs, weights, cache, reports, figures, a site or a synthetic set where nothing may be written",
        "one line before the work and not after it; exit 2, and 1 for the cache of decoded images",
        (_DISKS + "test_a_read_only_folder_is_told_before_the_work",),
    ),
    Fault(
        "read-only folder",
        "the folder of a sweep",
        "one line, exit 1",
        (_DISKS + "test_a_sweep_into_a_read_only_folder_is_one_line",),
    ),
    Fault(
        "images",
        "truncated, zero-byte, no image, 16 bits, CMYK, missing",
        "vbench run: one line with the path and the reason, exit 2; no record",
        (
            _IMAGES + "test_an_image_that_cannot_be_used_is_named",
            _LOAD + "test_ambiguous_modes_are_refused_by_path",
            _LOAD + "test_damaged_bytes_never_escape_as_anything_but_bad_input",
        ),
    ),
    Fault(
        "images",
        "several bad ones at once",
        "all are counted, five named",
        (_LOAD + "test_all_broken_files_are_counted_and_the_first_five_named",),
    ),
    Fault(
        "images",
        "of another size, a single pixel, grey-scale",
        "taken: resized, three equal channels",
        (
            _IMAGES + "test_an_image_of_another_kind_is_taken",
            _LOAD + "test_grey_becomes_three_equal_channels_and_palettes_their_colours",
        ),
    ),
    Fault(
        "missing camera",
        "a camera folder of SYSU-MM01 is gone",
        "noted in the record; refused where nothing is left to rank",
        (
            _SYSU + "test_a_missing_camera_is_allowed_and_noted",
            _SYSU + "test_no_gallery_image_is_refused",
            _IMAGES + "test_a_missing_camera_is_noted_in_the_record",
        ),
    ),
    Fault(
        "ids without images",
        "listed identities without a folder, or without images of one modality",
        "left out and noted",
        (_SYSU + "test_gaps_are_noted", _IMAGES + "test_an_identity_without_images_is_noted_in_the_record"),
    ),
    Fault(
        "duplicate ids",
        "an identity or an image in training and in test, or twice in a list",
        "refused with file, line and identity",
        (
            _SYSU + "test_broken_split_files_are_refused",
            _REGDB + "test_an_image_in_training_and_test_is_refused",
            _REGDB + "test_an_image_twice_in_a_list_is_refused",
            "data/test_llcm_reader.py::test_a_test_image_in_training_is_refused",
            _IMAGES + "test_an_identity_in_two_splits_is_refused",
        ),
    ),
    Fault(
        "label gaps",
        "training labels that leave numbers out",
        "mapped to classes without a gap, in order",
        (
            _SYSU + "test_training_is_train_and_val_ids",
            "data/test_llcm_reader.py::test_training_labels_are_the_lists",
            _REGDB + "test_training_keeps_the_lists_labels_without_sharing_pids",
        ),
    ),
    Fault(
        "corrupted record",
        "truncated, empty, binary, no object, wrong types, a folder of that name, among good ones",
        "named with the reason on stderr, the others are reported, exit 0",
        (
            _RECORDS + "test_bad_records_among_good_ones_are_skipped_and_named",
            _COMMAND + "test_finished_runs_survive_a_failing_one_and_a_broken_record",
            "reports/test_tables.py::test_broken_files_are_listed_not_fatal",
        ),
    ),
    Fault(
        "corrupted record",
        "the record of the very run that is asked for",
        "the run is done again and the record replaced",
        (_RECORDS + "test_a_damaged_record_is_made_again",),
    ),
    Fault(
        "corrupted cache",
        "decoded images: truncated, empty, one bit, longer, a pickle",
        "decoded again",
        (_LOAD + "test_a_damaged_cache_file_is_rebuilt",),
    ),
    Fault(
        "corrupted cache",
        "thin weights, their training state, the synthetic set's manifest, the choice of a precision",
        "made again",
        (
            _CACHES + "test_damage_to_thin_weights_is_seen",
            _CACHES + "test_damaged_thin_weights_and_training_states_are_made_again",
            _CACHES + "test_a_set_with_a_damaged_manifest_is_drawn_again",
            _CACHES + "test_a_damaged_choice_of_precision_is_made_again",
        ),
    ),
    Fault(
        "corrupted cache",
        "state files of a sweep",
        "taken for unknown; the records decide",
        ("sweep/test_state.py::test_a_state_that_cannot_be_read_is_none",),
    ),
    Fault(
        "not finite",
        "a victim's embeddings are NaN or infinite; an attack yields NaN or inf; a gradient or a loss is NaN",
        "the run fails by name, exit 1",
        (
            _SWEEPS + "test_a_value_that_is_not_finite_fails_its_run_by_name",
            "attacks/test_every_attack.py::test_a_gradient_that_is_not_finite_is_refused_by_name",
            "train/test_trainer.py::test_divergence_is_reported_with_its_place",
        ),
    ),
    Fault(
        "not finite",
        "victims and attacks of a sweep",
        "the sweep goes on, ends with exit 1 and names them",
        (
            _SWEEPS + "test_a_sweep_goes_on_past_victims_and_attacks_that_fail",
            _LOCAL + "test_shards_together_do_everything_and_a_bad_attack_fails_alone",
        ),
    ),
    Fault(
        "out of memory",
        "the GPU refuses a batch",
        "embedding and crafting go on with half and say so; learning and training name their batch",
        (
            "runner/test_batches.py::test_embedding_goes_on_with_half_and_says_so",
            "runner/test_batches.py::test_crafting_goes_on_with_half_and_is_counted_once",
            "runner/test_batches.py::test_a_single_image_too_many_is_one_clear_error",
            "runner/test_batches.py::test_a_fit_names_its_batch",
            _SWEEPS + "test_training_without_memory_is_one_line",
        ),
    ),
    Fault(
        "clock",
        "set back by an hour between two runs, and during a run",
        "durations stay positive, records stay readable and are all reported",
        (_RECORDS + "test_a_clock_that_goes_backwards_changes_no_figure",),
    ),
    Fault(
        "clock",
        "set back while a sweep runs",
        "who is alive is told by the process, not by the hour",
        ("sweep/test_state.py::test_running_is_believed_while_its_process_lives_and_its_file_is_fresh",),
    ),
    Fault(
        "two writers",
        "two processes do the same run at once",
        "one whole record, both exit with 0",
        (_COMMAND + "test_two_processes_share_one_cache",),
    ),
    Fault(
        "two writers",
        "writers of one path by the hundred, readers beside them",
        "every reader sees one whole file of some writer; no temporary file is left",
        (_RECORDS + "test_readers_see_whole_records_while_two_processes_write",),
    ),
    Fault(
        "two writers",
        "two sweeps of one suite; processes that decode the same images",
        "every task once; decoded once",
        (
            "sweep/test_scheduler.py::test_what_another_process_is_at_is_left_to_it",
            _LOAD + "test_processes_at_once_decode_once_and_agree",
        ),
    ),
)
