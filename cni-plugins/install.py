"""Write the plugin executables into a directory of CNI plugins."""

import os
import py_compile
import sys
from pathlib import Path

import phalanx.cni.phalanx_net

PLUGIN = "phalanx-net"
# All is written by then, so the process ends without the interpreter's clearing up: 2 ms less.
STUB = """\
#!{base} -IS
import os
import sys

sys.path.insert(0, {folder!r})
import phalanx_net

phalanx_net.DIRECT = {direct!r}
os._exit(phalanx_net.main())
"""


def install(directory: Path) -> list[Path]:
    """Write the executables into *directory* and return their paths.

    The interpreter is the base one, without site-packages, as it starts
    fastest; the code stays here and is compiled now, as a script would be
    compiled on every run. The interpreter that runs us, which knows our
    packages, is for work without a plane. A plugin that is being run is never
    seen half written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(phalanx.cni.phalanx_net.__file__).resolve()
    py_compile.compile(str(source), doraise=True)
    base = getattr(sys, "_base_executable", None) or sys.executable
    path = directory / PLUGIN
    draft = directory / f".{PLUGIN}.{os.getpid()}"
    draft.write_text(STUB.format(base=base, folder=str(source.parent), direct=sys.executable))
    draft.chmod(0o755)
    draft.replace(path)
    return [path]
