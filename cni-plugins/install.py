"""Write the plugin executables into a directory of CNI plugins."""

import marshal
import os
import py_compile
import sys
from pathlib import Path

import phalanx
import phalanx.cni.phalanx_net
from phalanx.cni.launcher import launcher
from phalanx.cni.quick import choice, quick_delete
from phalanx.cni.quick_add import quick_add
from phalanx.core.files import write_whole
from phalanx.net.hostport.exec import talk

PLUGIN = "phalanx-net"
COMPILED_CODE = Path(phalanx.cni.phalanx_net.__file__).resolve().parent / "__pycache__"
BEHIND_LAUNCHER = COMPILED_CODE / PLUGIN  # the Python plugin, where the launcher stands in front
QUICK = "phalanx-bridge"
BEHIND_QUICK = COMPILED_CODE / QUICK  # likewise
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
INDEX_BYTES = 8192  # of the bundle's first part
SYSTEM = "/usr/bin/python3"  # a distribution's starts faster than most others
TELL = """
import sys
import _ctypes, _json, _sha1, _socket, _struct, fcntl
def place(module):
    return module.__name__ + "=" + getattr(module, "__file__", "")
if {"_socket", "_struct", "_sha1"} <= set(sys.builtin_module_names):
    print(sys.implementation.cache_tag, place(_ctypes), place(_json))
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
import posix

file = posix.open({bundle!r}, posix.O_RDONLY | posix.O_CLOEXEC)
loader, places, extensions, root = marshal.loads(posix.pread(file, {index}, 0))
exec(loader)
from phalanx.cni.{module} import {plugin}
from phalanx.cni.skeleton import run

posix._exit(run({plugin}()))
"""
# Modules out of one file: finding, opening and reading each takes longer than running it.
LOADER = """
import sys
from _frozen_importlib import ModuleSpec


class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in extensions:
            from _frozen_importlib_external import ExtensionFileLoader

            return ModuleSpec(
                name, ExtensionFileLoader(name, extensions[name]), origin=extensions[name]
            )
        if name not in places:
            return None
        spec = ModuleSpec(name, Finder, is_package=places[name][0])
        if places[name][0]:
            spec.submodule_search_locations = [root + "/" + name.replace(".", "/")]
        return spec

    @staticmethod
    def create_module(spec):
        return None

    @staticmethod
    def exec_module(module):
        _, offset, length = places[module.__name__]
        if length:
            exec(marshal.loads(posix.pread(file, length, offset)), module.__dict__)


sys.meta_path.insert(0, Finder)
"""


def install(directory: Path) -> list[Path]:
    """Write the executables into *directory* and return their paths, phalanx-net's first.

    The interpreter is run without site-packages, as it starts fastest; the
    code stays here and is compiled now, as a script would be compiled on every
    run. All plugins but phalanx-net have theirs in one file. The interpreter
    that runs us, which knows our packages, is for work without a plane. In front
    of phalanx-net stands the launcher, of phalanx-bridge its quick ways, where they can be run.
    A plugin that is being run is never seen half written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    source = Path(phalanx.cni.phalanx_net.__file__).resolve()
    package = Path(phalanx.__file__).parent
    py_compile.compile(str(source), doraise=True)
    base = getattr(sys, "_base_executable", None) or sys.executable
    quick, extensions = _quick(base)
    bundle = COMPILED_CODE / f"family.{sys.implementation.cache_tag}.bundle"
    _write(bundle, _bundle(package, extensions))
    texts = {PLUGIN: STUB.format(base=base, folder=str(source.parent), direct=sys.executable)}
    seconds = int(phalanx.cni.phalanx_net.ANSWER_SECONDS)
    if quicker := launcher(str(BEHIND_LAUNCHER), seconds=seconds):
        _write(BEHIND_LAUNCHER, texts[PLUGIN].encode(), mode=0o755)
        texts[PLUGIN] = quicker
    for name, (module_name, plugin) in FAMILY.items():
        texts[name] = FAMILY_STUB.format(
            base=quick, bundle=str(bundle), index=INDEX_BYTES, module=module_name, plugin=plugin
        )
    behind = str(BEHIND_QUICK)
    ways = {"ADD": quick_add(behind), "DEL": quick_delete(behind)}
    files = {
        command: COMPILED_CODE / f"{QUICK}.{command}" for command, text in ways.items() if text
    }
    for command, path in files.items():
        _write(path, ways[command].encode(), mode=0o755)
    if files:
        _write(BEHIND_QUICK, texts[QUICK].encode(), mode=0o755)
        texts[QUICK] = choice(behind, {command: str(path) for command, path in files.items()})
    return [_write(directory / name, text.encode(), mode=0o755) for name, text in texts.items()]


def _quick(base: str) -> tuple[str, dict[str, str]]:
    """Return the interpreter that starts fastest, and where its extension modules are.

    The distribution's is taken where it runs our code and has what plugins need
    built in. It is named by its version: after an upgrade to another one, which
    would not understand our code, a runtime is told that there is no such file.
    """
    for path in (os.path.realpath(SYSTEM), base):
        if not os.access(path, os.X_OK):
            continue
        output, status = talk(path, [path, "-IS", "-c", TELL], {}, b"")
        tag, *places = output.decode().split() if status == 0 else [""]
        if tag == sys.implementation.cache_tag:
            named = (place.split("=", 1) for place in places)
            return path, {name: place for name, place in named if place}
    return base, {}


def _bundle(package: Path, extensions: dict[str, str]) -> bytes:
    """Return an index of a fixed size and the compiled code of what a plugin may import.

    The index is the loader, whether a module is a package and where its code
    begins and how long it is, where extension modules are, and the packages' root.
    """
    places: dict[str, tuple[bool, int, int]] = {"phalanx.cni": (True, 0, 0)}
    blobs, offset = [], INDEX_BYTES
    paths = [package / "__init__.py", package / "net/__init__.py"]
    paths += [path for folder in COMPILED for path in sorted((package / folder).glob("*.py"))]
    for path in paths:
        parts = ("phalanx", *path.relative_to(package).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        name = ".".join(parts[:-1] if is_package else parts)
        text = "" if is_package else path.read_text()
        code = compile(text, str(path), "exec", dont_inherit=True, optimize=2)
        blob = marshal.dumps(code) if text else b""
        places[name] = (is_package, offset, len(blob))
        blobs.append(blob)
        offset += len(blob)
    loader = compile(LOADER, "loader", "exec", dont_inherit=True)
    index = marshal.dumps((loader, places, extensions, str(package.parent)))
    if len(index) > INDEX_BYTES:
        raise ValueError(f"the bundle's index has {len(index)} bytes, more than {INDEX_BYTES}")
    return b"".join([index.ljust(INDEX_BYTES, b"\0"), *blobs])


def _write(path: Path, content: bytes, *, mode: int = 0o644) -> Path:
    write_whole(path, content, mode=mode)
    return path
