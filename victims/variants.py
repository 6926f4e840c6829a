"""Options of the built-in victims at full size and thin, readable without importing one.

What :meth:`vbench.victims.base.Victim.describe` says, but for the number of identities and the image size.
"""

from __future__ import annotations

from typing import Any

_FULL_TRUNK = {"width": 1.0, "blocks": [3, 4, 6, 3], "block": "bottleneck", "small_stem": False}
_THIN_TRUNK = {"width": 0.25, "blocks": [1, 1, 1, 1], "block": "basic", "small_stem": True}
_RESIDUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "agw": ({"embedding": "neck", "flip": False}, {}),
    "caj": ({"embedding": "neck", "flip": True}, {}),
    "ddag": (
        {
            "embedding": "attention",
            "flip": False,
            "part_count": 3,
            "graph_heads": 4,
            "graph_width": 512,
            "graph_dropout": 0.2,
        },
        {"graph_width": 32},
    ),
    "mmn": ({"embedding": "image", "flip": False}, {}),
    "deen": ({"embedding": "sum", "flip": True, "variant": "sysu"}, {}),
    "mpanet": ({"embedding": "neck", "flip": False, "variant": "sysu", "parts": 6}, {}),
    "mrcn": ({"embedding": "neck", "flip": False, "place": "layer2"}, {}),
}
_PMT = {
    "patch": 16,
    "stride": 12,
    "width": 768,
    "depth": 12,
    "heads": 12,
    "mlp_ratio": 4.0,
    "dropout": 0.03,
    "drop_path": 0.1,
    "stem_channels": 0,
    "embedding": "neck",
    "flip": False,
}
_THIN_PMT = {
    "patch": 6,
    "stride": 4,
    "width": 96,
    "depth": 6,
    "heads": 3,
    "mlp_ratio": 2.0,
    "dropout": 0.0,
    "stem_channels": 16,
}

#: Options of the authors' network by victim.
FULL: dict[str, dict[str, Any]] = {
    **{name: {**_FULL_TRUNK, **own} for name, (own, _) in _RESIDUAL.items()},
    "pmt": _PMT,
}
#: Options of the small network that is trained on synthetic data by victim.
THIN: dict[str, dict[str, Any]] = {
    **{name: {**_THIN_TRUNK, **own, **thin} for name, (own, thin) in _RESIDUAL.items()},
    "pmt": {**_PMT, **_THIN_PMT},
}
