"""What the demo proved: one line each, with what was seen and whether it held."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from phalanx.core.error import PhalanxError


@dataclass(frozen=True, slots=True)
class Proof:
    """One claim, what was seen, and whether that is what the claim says."""

    part: str
    claim: str
    seen: str
    held: bool
    seconds: float | None = None  # a time that the claim is about


@dataclass(frozen=True, slots=True)
class Timed:
    """What was seen, and how many seconds after the event."""

    seen: str
    seconds: float


class UnprovenError(PhalanxError):
    """A claim did not hold; the message says what was seen instead."""


@dataclass
class Report:
    """Collects proofs in order, showing each as it comes."""

    console: Console
    proofs: list[Proof] = field(default_factory=list)

    def prove(self, part: str, claim: str, show: Callable[[], str | Timed]) -> bool:
        """Run *show*; it returns what was seen, or raises if the claim does not hold."""
        try:
            seen = show()
        except (PhalanxError, OSError) as error:
            self.add(Proof(part, claim, str(error) or type(error).__name__, held=False))
            return False
        if isinstance(seen, Timed):
            self.add(Proof(part, claim, seen.seen, held=True, seconds=seen.seconds))
        else:
            self.add(Proof(part, claim, seen, held=True))
        return True

    def measure(self, part: str, claim: str, show: Callable[[], str]) -> bool:
        """Like ``prove``, for a claim about how long *show* takes from its beginning."""

        def timed() -> Timed:
            began = time.monotonic()
            seen = show()
            return Timed(seen, time.monotonic() - began)

        return self.prove(part, claim, timed)

    def add(self, proof: Proof) -> None:
        """Take a proof made elsewhere."""
        self.proofs.append(proof)
        sign = "[green]✔[/]" if proof.held else "[red]✘[/]"
        took = "" if proof.seconds is None else f"  [bold]{proof.seconds:.2f} s[/]"
        self.console.print(f"{sign} {proof.claim}{took}  [dim]{proof.seen}[/]", highlight=False)

    @property
    def held(self) -> bool:
        """Tell whether everything held, and there was something."""
        return bool(self.proofs) and all(proof.held for proof in self.proofs)

    def table(self) -> Table:
        """Return all proofs as a table."""
        table = Table("part", "claim", "took", "seen", "", title="What the main job proved")
        part = ""
        for proof in self.proofs:
            table.add_row(
                "" if proof.part == part else proof.part,
                proof.claim,
                "" if proof.seconds is None else f"{proof.seconds:.2f} s",
                proof.seen,
                "[green]pass[/]" if proof.held else "[red]FAIL[/]",
            )
            part = proof.part
        return table


def until(condition: Callable[[], str | None], *, seconds: float, what: str) -> str:
    """Poll until *condition* returns something to show; raise UnprovenError after *seconds*."""
    deadline = time.monotonic() + seconds
    while True:
        seen = condition()
        if seen is not None:
            return seen
        if time.monotonic() > deadline:
            raise UnprovenError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)  # waits: between two looks at a condition
