"""Kinds of links between cases, and their limits. Pure."""

from collections.abc import Mapping
from typing import Literal

LinkKind = Literal["related", "duplicate-of", "parent-of"]  # as clients create links, and as they are stored
ShownLinkKind = Literal["related", "duplicate-of", "duplicated-by", "parent-of", "child-of"]

RELATED: LinkKind = "related"
DUPLICATE_OF: LinkKind = "duplicate-of"
# What the other case of a link sees; `related` is the same from both sides.
INVERSE_KINDS: Mapping[LinkKind, ShownLinkKind] = {"duplicate-of": "duplicated-by", "parent-of": "child-of"}
MAX_LINKS = 100  # links of one case, from both sides
MAX_DUPLICATES = 20  # duplicates whose conversations are read together with the original's
MAX_DUPLICATES_BYTES = 4 * 1024 * 1024  # bytes of these conversations; the last one may go beyond
