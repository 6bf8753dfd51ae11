"""Rules of commands, containers, checks and health checks, in Mesos' words; pure (§1.4)."""

from phalanx.mesos.v1.mesos import (
    CheckInfo,
    CommandInfo,
    ContainerInfo,
    HealthCheck,
    HealthCheckType,
    Secret,
    Variable,
    Volume,
)


def command_problem(command: CommandInfo | None) -> str | None:
    """Return what is wrong with a command's environment."""
    if command is None or command.environment is None:
        return None
    for variable in command.environment.variables:
        if problem := _variable(variable):
            return problem
    return None


def _variable(variable: Variable) -> str | None:
    name = f"Environment variable '{variable.name}'"
    if variable.type == "VALUE":
        if variable.value is None:
            return f"{name} of type 'VALUE' must have a value set"
        if variable.secret is not None:
            return f"{name} of type 'VALUE' must not have a secret set"
        return None
    if variable.type != "SECRET":
        return "Environment variable of type 'UNKNOWN' is not allowed"
    if variable.secret is None:
        return f"{name} of type 'SECRET' must have a secret set"
    if variable.value is not None:
        return f"{name} of type 'SECRET' must not have a value set"
    if problem := secret_problem(variable.secret):
        return f"{name} specifies an invalid secret: {problem}"
    if variable.secret.value is not None and b"\0" in variable.secret.value.data:
        return (
            f"{name} specifies a secret containing null bytes, which is not allowed in the"
            " environment"
        )
    return None


def secret_problem(secret: Secret) -> str | None:
    """Return what is wrong with a secret."""
    if secret.type == "REFERENCE":
        if secret.reference is None:
            return "Secret of type REFERENCE must have the 'reference' field set"
        if secret.value is not None:
            return (
                f"Secret '{secret.reference.name}' of type REFERENCE must not have the"
                " 'value' field set"
            )
    elif secret.type == "VALUE":
        if secret.value is None:
            return "Secret of type VALUE must have the 'value' field set"
        if secret.reference is not None:
            return "Secret of type VALUE must not have the 'reference' field set"
    return None


def container_problem(container: ContainerInfo | None) -> str | None:
    """Return what is wrong with a container's volumes or its Docker part."""
    if container is None:
        return None
    for volume in container.volumes:
        if problem := _volume(volume):
            return f"Invalid volume: {problem}"
    if container.type == "DOCKER":
        if container.docker is None:
            return "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"
        if any(parameter.key == "name" for parameter in container.docker.parameters):
            return "Parameter in DockerInfo must not be 'name'"
    return None


def _volume(volume: Volume) -> str | None:
    given = (volume.host_path, volume.image, volume.source)
    if sum(item is not None for item in given) != 1:
        return "Only one of them should be set: 'host_path', 'image' and 'source'"
    source = volume.source
    if source is None:
        return None
    members = {
        "DOCKER_VOLUME": source.docker_volume,
        "HOST_PATH": source.host_path,
        "SANDBOX_PATH": source.sandbox_path,
        "SECRET": source.secret,
    }
    if source.type is None or source.type not in members:
        return "'source.type' is unknown"
    if members[source.type] is None:
        return f"'source.{source.type.lower()}' is not set for {source.type} volume"
    if source.secret is not None and (problem := secret_problem(source.secret)):
        return problem
    return None


def check_problem(check: CheckInfo) -> str | None:
    """Return what is wrong with a check, None when it is valid."""
    if check.type is None:
        return "CheckInfo must specify 'type'"
    if check.type == "COMMAND":
        if check.command is None:
            return "Expecting 'command' to be set for COMMAND check"
        if missing := _missing(check.command.command):
            return f"Command check must contain {missing}"
        if problem := command_problem(check.command.command):
            return f"Check's `CommandInfo` is invalid: {problem}"
    elif check.type == "HTTP":
        if check.http is None:
            return "Expecting 'http' to be set for HTTP check"
        if check.http.path and not check.http.path.startswith("/"):
            return f"The path '{check.http.path}' of HTTP check must start with '/'"
    elif check.type == "TCP":
        if check.tcp is None:
            return "Expecting 'tcp' to be set for TCP check"
    else:
        return f"'{check.type}' is not a valid check type"
    for field in ("delay", "interval", "timeout"):
        if not getattr(check, f"{field}_seconds") >= 0:
            return f"Expecting '{field}_seconds' to be non-negative"
    return None


def type_of(check: HealthCheck) -> HealthCheckType | None:
    """Return a health check's type: what it says, else the first member that it has."""
    if check.type is not None:
        return check.type
    if check.command is not None:
        return HealthCheckType.COMMAND
    if check.http is not None:
        return HealthCheckType.HTTP
    return HealthCheckType.TCP if check.tcp is not None else None


def health_check_problem(check: HealthCheck) -> str | None:
    """Return what is wrong with a health check, None when it is valid."""
    kind = type_of(check)
    if kind is None:
        return "HealthCheck must specify 'type'"
    if kind is HealthCheckType.COMMAND:
        if check.command is None:
            return "Expecting 'command' to be set for COMMAND health check"
        if missing := _missing(check.command):
            return f"Command health check must contain {missing}"
        if problem := command_problem(check.command):
            return f"Health check's `CommandInfo` is invalid: {problem}"
    elif kind is HealthCheckType.HTTP:
        if check.http is None:
            return "Expecting 'http' to be set for HTTP health check"
        if check.http.scheme not in (None, "http", "https"):
            return f"Unsupported HTTP health check scheme: '{check.http.scheme}'"
        if check.http.path and not check.http.path.startswith("/"):
            return f"The path '{check.http.path}' of HTTP health check must start with '/'"
    elif kind is HealthCheckType.TCP:
        if check.tcp is None:
            return "Expecting 'tcp' to be set for TCP health check"
    else:
        return f"'{kind}' is not a valid health check type"
    for field in ("delay", "grace_period", "interval", "timeout"):
        if not getattr(check, f"{field}_seconds") >= 0:
            return f"Expecting '{field}_seconds' to be non-negative"
    return None


def _missing(command: CommandInfo) -> str | None:
    """Return what a check's command lacks, None when it can be run."""
    if command.shell:
        return None if command.value is not None else "'shell command'"
    return None if command.value is not None else "'executable path'"
