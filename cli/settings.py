"""The page of all settings, made from the configuration of each daemon.

``python -m phalanx.cli.settings > docs/reference/settings.md`` writes it anew.
"""

import sys
from dataclasses import MISSING, Field, fields
from importlib import import_module
from typing import Any

CONFIGS = {
    "master": ("phalanx.master.config", "MasterConfig", "MESOS"),
    "agent": ("phalanx.agent.config", "AgentConfig", "MESOS"),
    "plane": ("phalanx.plane.config", "PlaneConfig", "PHALANX_PLANE"),
    "marathon": ("phalanx.marathon.config", "MarathonConfig", "MARATHON"),
}

HEAD = """# Settings

Each setting of a daemon is a flag (`--work-dir`, also `--work_dir`), an environment
variable (`PREFIX_WORK_DIR`) and a key of the TOML file that `--config FILE` names
(`work_dir`). A flag beats the environment, which beats the file, which beats the default.
`--check-config` checks and exits. What can't be used is refused with key and value,
exit status 2.
"""


def settings_page() -> str:
    """Return the whole page as Markdown."""
    parts = [HEAD]
    for daemon, (module, name, prefix) in CONFIGS.items():
        rows = [_row(item) for item in fields(getattr(import_module(module), name))]
        head = "| setting | default | meaning |\n|---|---|---|"
        parts.append(f"## {daemon}\n\nEnvironment prefix `{prefix}`.\n\n{head}\n" + "\n".join(rows))
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _row(item: Field[Any]) -> str:
    return f"| `--{item.name.replace('_', '-')}` | {_default(item)} | {item.metadata['help']} |"


def _default(item: Field[Any]) -> str:
    if item.default is MISSING:
        return "required"
    if item.default in (None, "", ()):
        return ""
    if isinstance(item.default, tuple):
        return f"`{','.join(map(str, item.default))}`"
    return f"`{item.default}`"


if __name__ == "__main__":
    sys.stdout.write(settings_page())
