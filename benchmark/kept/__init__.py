"""What a run keeps beside its record on request: embeddings and some images, for figures. Needs no torch."""

from vbench.kept.embeddings import KeptEmbeddings
from vbench.kept.folder import (
    KEEPABLE,
    keep_hint,
    learnt_file,
    missing,
    read_embeddings,
    read_images,
    read_keep,
)
from vbench.kept.images import KeptImages

__all__ = [
    "KEEPABLE",
    "KeptEmbeddings",
    "KeptImages",
    "keep_hint",
    "learnt_file",
    "missing",
    "read_embeddings",
    "read_images",
    "read_keep",
]
