"""What protobuf needs to know of a field beside its Python type: number, integer kind, enum.

Carried by ``Annotated``, where msgspec checks what it can check of it.
"""

import re
from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta


def n(number: int) -> Meta:
    """Give a field its number on the wire."""
    return Meta(extra={"number": number})


def names(numbers: Mapping[str, int]) -> Meta:
    """Make a text an enum: only these names, each with its number on the wire."""
    pattern = "|".join(re.escape(name) for name in numbers)
    return Meta(pattern=f"^({pattern})$", extra={"enum": numbers})


I32 = Annotated[int, Meta(ge=-(2**31), lt=2**31, extra={"kind": "int32"})]
I64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1, extra={"kind": "int64"})]
U32 = Annotated[int, Meta(ge=0, lt=2**32, extra={"kind": "uint32"})]
# msgspec can't be told of a bound above this; what lies beyond is for the lenient way to judge.
U64 = Annotated[int, Meta(ge=0, le=2**63 - 1, extra={"kind": "uint64"})]
