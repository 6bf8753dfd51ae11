"""Write the plugin executables into a directory of CNI plugins."""

import os
import sys
from pathlib import Path

import phalanx.cni.phalanx_net

PLUGIN = "phalanx-net"


def install(directory: Path) -> list[Path]:
    """Write the executables into *directory* and return their paths.

    The interpreter is the base one, without site-packages, as it starts
    fastest; the one that runs us, which knows our packages, is written into
    the plugin for work without a plane. A plugin that is being run is never
    seen half written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(phalanx.cni.phalanx_net.__file__).read_text()
    base = getattr(sys, "_base_executable", None) or sys.executable
    text = f"#!{base} -IS\n{source}".replace('DIRECT = ""', f"DIRECT = {sys.executable!r}", 1)
    path = directory / PLUGIN
    draft = directory / f".{PLUGIN}.{os.getpid()}"
    draft.write_text(text)
    draft.chmod(0o755)
    draft.replace(path)
    return [path]
