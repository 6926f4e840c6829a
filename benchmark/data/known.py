"""Published sizes of the real sets, to compare a copy with."""

from __future__ import annotations

#: Layout -> what is counted -> how many. SYSU-MM01: Wu et al. 2017 and the AGW evaluation script's printed
#: statistics; RegDB: the ten published splits; LLCM: Zhang and Wang 2023.
KNOWN_COUNTS: dict[str, dict[str, int]] = {
    "sysu": {
        "training identities": 395,
        "test identities": 96,
        "training images, visible": 22258,
        "training images, infrared": 11909,
        "queries, all-search": 3803,
        "gallery, all-search single-shot": 301,
    },
    "regdb": {
        "training identities": 206,
        "test identities": 206,
        "training images, visible": 2060,
        "training images, infrared": 2060,
        "test images, visible": 2060,
        "test images, infrared": 2060,
    },
    "llcm": {
        "training identities": 713,
        "test identities": 351,
        "training images, visible": 16946,
        "training images, infrared": 13975,
        "test images, visible": 8680,
        "test images, infrared": 7166,
    },
}
