"""Secrets: given by value, or by the name of a file that the operator has put somewhere."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from phalanx.core.error import ContainerError
from phalanx.mesos.v1.mesos import CommandInfo, Secret

MOST_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Secrets:
    """Where secrets are looked up; no message says what is in one."""

    directory: Path | None = None

    def resolve(self, secret: Secret) -> bytes:
        """Return a secret's content; raise ContainerError, which names it at most."""
        if secret.value is not None and secret.type in ("VALUE", None):
            return secret.value.data
        reference = secret.reference
        if reference is None:
            raise ContainerError("secret: has neither value nor reference")
        name = reference.name if reference.key is None else f"{reference.name}/{reference.key}"
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise ContainerError(f"secret {name!r}: is not allowed")
        if self.directory is None:
            raise ContainerError(f"secret {name!r}: there is no --secrets-dir to look in")
        try:
            content = (self.directory / path).read_bytes()
        except OSError as error:
            raise ContainerError(f"secret {name!r}: {error.strerror}") from error
        if len(content) > MOST_BYTES:
            raise ContainerError(f"secret {name!r}: is larger than {MOST_BYTES} bytes")
        return content

    def variables(self, command: CommandInfo | None) -> dict[str, str]:
        """Return a command's variables, the secret ones by what they stand for."""
        asked = command.environment if command is not None else None
        found = {}
        for variable in asked.variables if asked is not None else ():
            if variable.type == "SECRET" and variable.secret is not None:
                try:
                    found[variable.name] = self.resolve(variable.secret).decode()
                except UnicodeDecodeError:
                    raise ContainerError(f"variable {variable.name!r}: is no text") from None
            else:
                found[variable.name] = variable.value or ""
            if "\0" in found[variable.name] or "=" in variable.name:
                raise ContainerError(f"variable {variable.name!r}: can't be in an environment")
        return found
