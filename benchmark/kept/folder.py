"""Where kept files lie, which of them a record has, and how a figure asks for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vbench.errors import BadInput, unknown_name
from vbench.kept.container import Meta, read_meta
from vbench.kept.embeddings import FORMAT as EMBEDDINGS
from vbench.kept.embeddings import EmbeddingsMeta, KeptEmbeddings
from vbench.kept.images import FORMAT as IMAGES
from vbench.kept.images import ImagesMeta, KeptImages
from vbench.record import Record
from vbench.store import RunStore

_KINDS: dict[str, tuple[type[Meta], str]] = {
    "embeddings": (EmbeddingsMeta, EMBEDDINGS),
    "images": (ImagesMeta, IMAGES),
}
#: What ``vbench run --keep`` takes.
KEEPABLE = tuple(_KINDS)
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,80}")


def read_keep(text: str) -> frozenset[str]:
    """What to keep from "embeddings,images"; raises BadInput for an unknown word, and for none at all."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in KEEPABLE:
            raise unknown_name("thing to keep", name, KEEPABLE)
    if not names:
        raise BadInput(f"--keep names nothing; known: {', '.join(KEEPABLE)}")
    return frozenset(names)


def kept_file(runs: Path, record_id: str, what: str) -> Path:
    """The file of one kind beside a record; raises BadInput for an id that is no plain name."""
    if not _PLAIN.fullmatch(record_id):
        raise BadInput(f"record id '{record_id[:40]}' is not letters and digits; no file is looked for")
    return runs / "kept" / record_id / f"{what}.safetensors"


def learnt_file(runs: Path, record: Record) -> Path | None:
    """The perturbation that a universal attack's run learnt; None if there is none."""
    attack = record.config["attack"]["name"]
    path = RunStore(runs).perturbation_path(record, attack)
    return path if _PLAIN.fullmatch(f"{attack}-{record.id}") and path.is_file() else None


def missing(runs: Path, record: Record, wanted: Iterable[str]) -> list[str]:
    """What of ``wanted`` is not kept by the run that made this record."""
    lacking = []
    for what in sorted(wanted):
        try:
            _check(runs, record, what)
        except BadInput:
            lacking.append(what)
    return lacking


def read_embeddings(runs: Path, record: Record) -> KeptEmbeddings:
    """The kept embeddings of a record; raises BadInput where there are none, or they are broken."""
    return KeptEmbeddings.read(_check(runs, record, "embeddings"))


def read_images(runs: Path, record: Record) -> KeptImages:
    """The kept images of a record; raises BadInput where there are none, or they are broken."""
    return KeptImages.read(_check(runs, record, "images"))


def keep_hint(runs: Path, record: Record, what: str) -> str:
    """The command that makes a run keep something, and what must be known to use it, on one line."""
    # Reports look at kept files too.
    from vbench.reports.command import command

    folder = [] if runs == Path("runs") else ["--runs", str(runs)]
    found = command([record], ["--keep", what, *folder])
    return "; ".join(filter(None, (found.text, *found.notes)))


def _check(runs: Path, record: Record, what: str) -> Path:
    path = kept_file(runs, record.id, what)
    if not path.is_file():
        raise BadInput(f"run {record.id} kept no {what}; this does: {keep_hint(runs, record, what)}")
    meta = read_meta(path, *_KINDS[what])
    if (meta.record, meta.created, meta.digest) != (record.id, record.created, record.digest):
        raise BadInput(
            f"{path} is of another run than its record; run again: {keep_hint(runs, record, what)}"
        )
    return path
