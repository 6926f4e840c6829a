"""Which gallery images each set's own protocol hides from a query."""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor

from vbench.errors import BadInput, unknown_name

#: The ranking rules, named after the data set that each belongs to.
Protocol = Literal["sysu", "regdb", "llcm"]

PROTOCOLS: tuple[str, ...] = get_args(Protocol)

#: Rules whose CMC counts identities, each standing at its best kept image, instead of images.
IDENTITY_CMC = frozenset({"sysu", "llcm"})

#: SYSU-MM01 cameras 2 (visible) and 3 (infrared) stand in the same place.
_SYSU_SAME_PLACE = (2, 3)


def check_protocol(protocol: str) -> None:
    """Refuse a ranking rule that does not exist, with :class:`BadInput`."""
    if protocol not in PROTOCOLS:
        raise unknown_name("ranking protocol", protocol, PROTOCOLS)


def check_cameras(protocol: str, query_cams: Tensor | None, gallery_cams: Tensor | None) -> None:
    """Refuse missing cameras where the rule of ``protocol`` needs them, with :class:`BadInput`."""
    if protocol != "regdb" and (query_cams is None or gallery_cams is None):
        raise BadInput(f"protocol '{protocol}' needs cameras; pass query_cams and gallery_cams")


def removed(
    protocol: str,
    query_ids: Tensor,
    gallery_ids: Tensor,
    query_cams: Tensor | None,
    gallery_cams: Tensor | None,
) -> Tensor | None:
    """Mask of removed entries, queries x gallery bool, or None where nothing is removed.

    sysu: a query of camera 3 loses every gallery image of camera 2, whoever it shows. The mirror image
    (query of camera 2, gallery of camera 3) follows the same reasoning for visible queries, a direction
    that the set's owner never defined. regdb: nothing. llcm: gallery images that share both identity and
    camera number with the query.
    """
    if protocol == "regdb":
        return None
    if protocol == "llcm":
        return (query_ids[:, None] == gallery_ids) & (query_cams[:, None] == gallery_cams)
    visible, infrared = _SYSU_SAME_PLACE
    # Small codes, equal where the entry goes, make one cheap comparison of all pairs.
    query_code = (query_cams == infrared).byte() + 2 * (query_cams == visible).byte()
    gallery_code = (gallery_cams == visible).byte() + 2 * (gallery_cams == infrared).byte()
    return query_code.where(query_code > 0, 3)[:, None] == gallery_code
