"""The constant part of a table of ours; pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Layout:
    """The name of a table of family inet, and its sets, chains and rules as nft reads them."""

    table: str
    body: str
