"""From an authors' released checkpoint to a safe file of our own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from vbench._version import __version__
from vbench.errors import BadInput
from vbench.files import split_entry
from vbench.victims.checkpoint import sha256_of, write_checkpoint
from vbench.victims.load import load_victim
from vbench.victims.split import is_regdb

_CHUNK = 1 << 20


def convert_checkpoint(
    file: Path, victim: str, out: Path, split: str | None = None, options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Read a released ``file``, check it tensor by tensor, and write ``out`` (``.safetensors``).

    Only tensors that the network uses are written. Returns the metadata of the new file: victim, options,
    split (``split``, or read off the file), SHA-256 of the old file and of the tensors, what lay beside them.
    Raises BadInput as :func:`load_victim` does, for a RegDB file whose split is not known, and for a
    ``split`` that contradicts the file's name.
    """
    loaded = load_victim(victim, file, device="cpu", **(options or {}))
    beside = dict(loaded.weights_metadata)
    known = beside.pop("split", None)
    if "victim" in beside:
        raise BadInput(f"{file}: this is a file of vbench already; nothing to convert")
    if split and known and split != known:
        raise BadInput(f"--split {split}: the name of {file} says {known}")
    if is_regdb(loaded.num_classes) and not (split or known):
        raise BadInput(
            f"{file}: RegDB has ten splits with different training identities and the file's name does not "
            "say which; give --split regdb/trial-N"
        )
    state = loaded.state_dict()
    metadata = {
        "schema": 1,
        "victim": loaded.name,
        "options": loaded.describe(),
        "split": split or known,
        "released": {"file": file.name, "sha256": _sha256(split_entry(file)[0]), "beside": beside},
        "sha256": sha256_of(state),
        "vbench": __version__,
    }
    write_checkpoint(out, state, metadata)
    return metadata


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
