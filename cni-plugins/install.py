"""Write the plugin executables into a directory of CNI plugins."""

import os
import py_compile
import sys
from pathlib import Path

import phalanx
import phalanx.cni.phalanx_net

PLUGIN = "phalanx-net"
# name -> module and class of the plugins that need no plane
FAMILY = {
    "phalanx-bridge": ("bridge", "Bridge"),
    "phalanx-ipam": ("ipam", "Ipam"),
    "phalanx-portmap": ("hostport", "Portmap"),
    "phalanx-isolation": ("fence", "Isolation"),
    "phalanx-bandwidth": ("bandwidth", "Bandwidth"),
    "phalanx-loopback": ("loopback", "Loopback"),
}
COMPILED = ("cni", "net/netlink", "net/hostport")  # below the package, what plugins import
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
FAMILY_STUB = """\
#!{base} -IS
import os
import sys

sys.path.insert(0, {root!r})
from phalanx.cni.{module} import {plugin}
from phalanx.cni.skeleton import run

os._exit(run({plugin}()))
"""


def install(directory: Path) -> list[Path]:
    """Write the executables into *directory* and return their paths, phalanx-net's first.

    The interpreter is the base one, without site-packages, as it starts
    fastest; the code stays here and is compiled now, as a script would be
    compiled on every run. The interpreter that runs us, which knows our
    packages, is for work without a plane. A plugin that is being run is never
    seen half written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(phalanx.cni.phalanx_net.__file__).resolve()
    package = Path(phalanx.__file__).parent
    for module in [Path(phalanx.__file__), source, *_modules(package)]:
        py_compile.compile(str(module), doraise=True)
    base = getattr(sys, "_base_executable", None) or sys.executable
    texts = {PLUGIN: STUB.format(base=base, folder=str(source.parent), direct=sys.executable)}
    for name, (module_name, plugin) in FAMILY.items():
        texts[name] = FAMILY_STUB.format(
            base=base, root=str(package.parent), module=module_name, plugin=plugin
        )
    return [_write(directory / name, text) for name, text in texts.items()]


def _modules(package: Path) -> list[Path]:
    return [path for folder in COMPILED for path in sorted((package / folder).glob("*.py"))]


def _write(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.chmod(0o755)
    draft.replace(path)
    return path
