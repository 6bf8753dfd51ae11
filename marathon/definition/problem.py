"""What is wrong with a definition, and where."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from phalanx.core.error import InvalidError


@dataclass(frozen=True, slots=True)
class Problem:
    """One error at one path, such as ``/healthChecks(0)/port``."""

    path: str
    error: str


class DefinitionError(InvalidError):
    """A definition that can't be used; *problems* says why, path by path."""

    def __init__(self, problems: Iterable[Problem], message: str = "Object is not valid") -> None:
        self.problems = tuple(problems)
        self.message = message
        told = "; ".join(f"{problem.path}: {problem.error}" for problem in self.problems)
        super().__init__(f"{message}: {told}")

    def below(self, at: str) -> "DefinitionError":
        """Return the same error of what stands at a path, such as ``(0)``, of something larger."""
        problems = (Problem(at + p.path.removesuffix("/"), p.error) for p in self.problems)
        return DefinitionError(problems, self.message)

    def body(self) -> Mapping[str, object]:
        """Return the error as Marathon's clients expect it."""
        errors: dict[str, list[str]] = {}
        for problem in self.problems:
            errors.setdefault(problem.path, []).append(problem.error)
        details = [{"path": path, "errors": texts} for path, texts in errors.items()]
        return {"message": self.message, "details": details}


def unique(path: str, values: Iterable[object]) -> Iterator[Problem]:
    """Yield a problem for every value that is there more than once."""
    for value, count in Counter(values).items():
        if count > 1:
            yield Problem(path, f"elements must be unique: {value}")
