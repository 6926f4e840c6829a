"""Readers of data sets by name: installed, and given by path."""

from __future__ import annotations

from vbench.data.protocols import LAYOUTS
from vbench.registry import Registry

#: vbench's own layouts have readers of their own; only sets from outside stand here.
datasets = Registry("dataset", "vbench.data.reader:DatasetReader", (), words=("synthetic", *LAYOUTS))
