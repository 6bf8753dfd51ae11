"""How commands print tables."""

from rich.console import Console
from rich.table import Table

WIDTH = 160  # of a listing that goes to a file or another program


def print_tables(*tables: Table) -> None:
    """Print *tables* as their cells are: ``[fd01::1]`` is no markup and ``:b:`` no picture.

    A name that is too long for its column goes on below: one cut off could not be used.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console = Console(markup=False, emoji=False, highlight=False, width=WIDTH)
    for table in tables:
        for column in table.columns:
            column.overflow = "fold"
        console.print(table)
