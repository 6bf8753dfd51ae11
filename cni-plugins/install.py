"""Write the plugin executables into a directory of CNI plugins."""

import marshal
import os
import py_compile
import sys
import threading
from pathlib import Path

import phalanx
import phalanx.cni.phalanx_net
from phalanx.cni.launcher import launcher
from phalanx.net.hostport.exec import talk

PLUGIN = "phalanx-net"
COMPILED_CODE = Path(phalanx.cni.phalanx_net.__file__).resolve().parent / "__pycache__"
BEHIND_LAUNCHER = COMPILED_CODE / PLUGIN  # the Python plugin, where the launcher stands in front
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
SYSTEM = "/usr/bin/python3"  # a distribution's starts faster than most others
TELL = """
import sys
if {"_socket", "_struct", "_sha1"} <= set(sys.builtin_module_names):
    print(sys.implementation.cache_tag)
"""
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
import marshal
import os

with open({bundle!r}, "rb") as file:
    scope = dict(zip(("loader", "modules", "root"), marshal.loads(file.read())))
exec(scope["loader"], scope)
from phalanx.cni.{module} import {plugin}
from phalanx.cni.skeleton import run

os._exit(run({plugin}()))
"""
# Modules out of one file: finding, opening and reading each takes longer than running it.
LOADER = """
import marshal
import sys
from _frozen_importlib import ModuleSpec


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name not in modules:
            return None
        spec = ModuleSpec(name, Finder, is_package=modules[name][0])
        if modules[name][0]:
            spec.submodule_search_locations = [root + "/" + name.replace(".", "/")]
        return spec

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        exec(marshal.loads(modules[module.__name__][1]), module.__dict__)


sys.meta_path.insert(0, Finder)
"""


def install(directory: Path) -> list[Path]:
    """Write the executables into *directory* and return their paths, phalanx-net's first.

    The interpreter is run without site-packages, as it starts fastest; the
    code stays here and is compiled now, as a script would be compiled on every
    run. All plugins but phalanx-net have theirs in one file. The interpreter
    that runs us, which knows our packages, is for work without a plane. In front
    of phalanx-net stands the launcher where it can be run. A plugin that is
    being run is never seen half written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(phalanx.cni.phalanx_net.__file__).resolve()
    package = Path(phalanx.__file__).parent
    py_compile.compile(str(source), doraise=True)
    bundle = COMPILED_CODE / f"plugins.{sys.implementation.cache_tag}.bundle"
    _write(bundle, _bundle(package))
    base = getattr(sys, "_base_executable", None) or sys.executable
    quick = SYSTEM if _is_as_good(SYSTEM) else base
    texts = {PLUGIN: STUB.format(base=base, folder=str(source.parent), direct=sys.executable)}
    seconds = int(phalanx.cni.phalanx_net.ANSWER_SECONDS)
    if quicker := launcher(str(BEHIND_LAUNCHER), seconds=seconds):
        _write(BEHIND_LAUNCHER, texts[PLUGIN].encode(), mode=0o755)
        texts[PLUGIN] = quicker
    for name, (module_name, plugin) in FAMILY.items():
        texts[name] = FAMILY_STUB.format(
            base=quick, bundle=str(bundle), module=module_name, plugin=plugin
        )
    return [_write(directory / name, text.encode(), mode=0o755) for name, text in texts.items()]


def _is_as_good(interpreter: str) -> bool:
    """Tell whether an interpreter can run our code and has the modules that it needs built in."""
    if not os.access(interpreter, os.X_OK):
        return False
    output, status = talk(interpreter, [interpreter, "-IS", "-c", TELL], {}, b"")
    return status == 0 and output.decode().strip() == sys.implementation.cache_tag


def _bundle(package: Path) -> bytes:
    """Return the loader and the compiled code of every module that a plugin may import."""
    nothing = marshal.dumps(compile("", "", "exec"))
    modules: dict[str, tuple[bool, bytes]] = {"phalanx.cni": (True, nothing)}
    paths = [package / "__init__.py", package / "net/__init__.py"]
    paths += [path for folder in COMPILED for path in sorted((package / folder).glob("*.py"))]
    for path in paths:
        text = path.read_text() if path.exists() else ""
        parts = ("phalanx", *path.relative_to(package).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        code = compile(text, str(path), "exec", dont_inherit=True, optimize=2)
        modules[name] = (is_package, marshal.dumps(code))
    loader = compile(LOADER, "loader", "exec", dont_inherit=True)
    return marshal.dumps((loader, modules, str(package.parent)))


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> Path:
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    draft.write_bytes(content)
    draft.chmod(mode)
    draft.replace(path)
    return path
