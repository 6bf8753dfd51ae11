"""Images: names, manifests and commands are tables; layers and the store meet real files."""

import asyncio
import fcntl
import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from phalanx.agent.image.config import (
    ImageConfig,
    image_command,
    layer_digests,
    parse_config,
    resolve_user,
)
from phalanx.agent.image.layer import Budget, apply_layer
from phalanx.agent.image.manifest import (
    REF_NAME,
    Plan,
    Wanted,
    blob_path,
    descriptor_of,
    docker_plan,
    oci_plan,
)
from phalanx.agent.image.name import ImageName, candidates, parse_name
from phalanx.agent.image.scope import has_program, parts_of, resolve
from phalanx.agent.image.store import Images, install, remove_unfinished
from phalanx.core.error import ContainerError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        pytest.param("web", ImageName("web"), id="bare"),
        pytest.param("web:1.2", ImageName("web", "1.2"), id="tag"),
        pytest.param("team/web:1", ImageName("team/web", "1"), id="directory"),
        pytest.param("host:5000/web", ImageName("host:5000/web"), id="port-is-no-tag"),
        pytest.param("host:5000/a/b:x", ImageName("host:5000/a/b", "x"), id="port-and-tag"),
    ],
)
def test_a_name_is_read(text: str, name: ImageName) -> None:
    assert parse_name(text) == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/etc/web",
        "../web",
        "a/../b",
        "a//b",
        "web:",
        "web:a/b:",
        "a b",
        ".hidden",
        "a/.",
        "a:b:c",
    ],
)
def test_what_could_lead_elsewhere_is_no_name(text: str) -> None:
    with pytest.raises(ContainerError, match="is not a name of an image"):
        parse_name(text)


def test_a_digest_is_refused_as_one() -> None:
    with pytest.raises(ContainerError, match="names a digest"):
        parse_name("web@sha256:00")


def test_an_image_is_looked_for_under_its_tag_first() -> None:
    def paths(text: str) -> list[tuple[str, bool]]:
        found = candidates(Path("/r"), parse_name(text))
        return [(str(candidate.path), candidate.is_exact) for candidate in found]

    assert paths("a/web:1") == [("/r/a/web:1.tar", True), ("/r/a/web.tar", False)]
    assert paths("web") == [("/r/web:latest.tar", True), ("/r/web.tar", True)]


EP, CMD = ("ep", "e1"), ("cmd", "c1")


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "arguments", "words"),
    [
        pytest.param((), CMD, (), ["cmd", "c1"], id="cmd"),
        pytest.param((), CMD, ("a",), ["cmd", "a"], id="cmd-with-arguments"),
        pytest.param(EP, (), (), ["ep", "e1"], id="entrypoint"),
        pytest.param(EP, (), ("a",), ["ep", "e1", "a"], id="entrypoint-with-arguments"),
        pytest.param(EP, CMD, (), ["ep", "e1", "cmd", "c1"], id="both"),
        pytest.param(EP, CMD, ("a",), ["ep", "e1", "a"], id="both-with-arguments"),
    ],
)
def test_an_image_says_what_runs(
    entrypoint: tuple[str, ...], cmd: tuple[str, ...], arguments: tuple[str, ...], words: list[str]
) -> None:
    assert image_command(ImageConfig(entrypoint, cmd), arguments) == words


@pytest.mark.parametrize("arguments", [(), ("a",)])
def test_without_a_program_there_is_nothing_to_run(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ContainerError, match="no Entrypoint or Cmd"):
        image_command(ImageConfig(), arguments)


def test_a_configuration_is_read() -> None:
    config = parse_config({"config": {"Env": ["A=1=2", "B"], "Cmd": None, "WorkingDir": ""}})

    assert config == ImageConfig(environment=(("A", "1=2"), ("B", "")))
    assert parse_config({}) == ImageConfig()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        pytest.param({"config": []}, None, id="empty-list-is-nothing"),
        pytest.param({"config": [1]}, "config: is not an object", id="list"),
        pytest.param({"config": {"Cmd": "x"}}, "Cmd: 'x'", id="cmd"),
        pytest.param({"config": {"Env": [1]}}, "Env: ", id="env"),
        pytest.param({"config": {"WorkingDir": 1}}, "WorkingDir: 1", id="directory"),
    ],
)
def test_a_bad_configuration_is_named(config: dict[str, Any], words: str | None) -> None:
    if words is None:
        assert parse_config(config) == ImageConfig()
        return
    with pytest.raises(ContainerError, match=words):
        parse_config(config)


@pytest.mark.parametrize("raw", [{}, {"rootfs": {"diff_ids": [1]}}, {"rootfs": []}])
def test_layers_must_be_named(raw: dict[str, Any]) -> None:
    with pytest.raises(ContainerError, match="diff_ids"):
        layer_digests(raw)


def entry(number: int, *tags: str) -> dict[str, Any]:
    return {"Config": f"{number}.json", "Layers": [f"{number}.tar"], "RepoTags": list(tags)}


@pytest.mark.parametrize(
    ("entries", "wanted", "config"),
    [
        pytest.param([entry(0)], Wanted("1", False), "0.json", id="one-without-a-name"),
        pytest.param([entry(0, "x:2")], Wanted("1", True), "0.json", id="the-file-says-the-tag"),
        pytest.param(
            [entry(0, "x:2"), entry(1, "h:5/x:1")], Wanted("1", False), "1.json", id="by-tag"
        ),
        pytest.param(
            [entry(0, "x:2"), entry(1, "x:latest")], Wanted(None, True), "1.json", id="latest"
        ),
    ],
)
def test_the_image_of_a_docker_archive_is_chosen(
    entries: list[dict[str, Any]], wanted: Wanted, config: str
) -> None:
    assert docker_plan(entries, wanted).config == config


@pytest.mark.parametrize(
    ("entries", "wanted", "words"),
    [
        pytest.param([entry(0, "x:2")], Wanted("1", False), "has x:2, and not the tag '1'", id="x"),
        pytest.param([], Wanted(None, True), "has no names", id="empty"),
        pytest.param({}, Wanted(None, True), "manifest.json: is not a list", id="object"),
    ],
)
def test_a_docker_archive_without_the_image_is_refused(
    entries: object, wanted: Wanted, words: str
) -> None:
    with pytest.raises(ContainerError, match=words):
        docker_plan(entries, wanted)


def test_an_index_is_followed_by_platform_and_name() -> None:
    def descriptor(digest: str, tag: str, architecture: str) -> dict[str, Any]:
        platform = {"os": "linux", "architecture": architecture}
        return {"digest": digest, "annotations": {REF_NAME: tag}, "platform": platform}

    index = {
        "manifests": [
            descriptor("sha256:1", "1", "arm64"),
            descriptor("sha256:2", "1", "amd64"),
            descriptor("sha256:3", "2", "amd64"),
        ]
    }

    assert descriptor_of(index, Wanted("1", False), "amd64")["digest"] == "sha256:2"
    assert descriptor_of(index, Wanted("1", False), "arm64")["digest"] == "sha256:1"
    with pytest.raises(ContainerError, match="nothing for linux on riscv64"):
        descriptor_of(index, Wanted("1", False), "riscv64")


def test_an_oci_manifest_names_blobs() -> None:
    manifest = {"config": {"digest": "sha256:c"}, "layers": [{"digest": "sha256:l"}]}

    assert oci_plan(manifest) == Plan("blobs/sha256/c", ("blobs/sha256/l",))


@pytest.mark.parametrize("descriptor", [{}, {"digest": "x"}, {"digest": "sha256:../x"}, None])
def test_a_digest_is_no_path(descriptor: object) -> None:
    with pytest.raises(ContainerError, match="descriptor"):
        blob_path(descriptor)


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.mode = tarfile.DIRTYPE, mode
    return member, b""


def file(name: str, content: bytes = b"", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def device(name: str) -> tuple[tarfile.TarInfo, bytes]:
    member = tarfile.TarInfo(name)
    member.type, member.devmajor, member.devminor = tarfile.CHRTYPE, 1, 3
    return member, b""


Members = Sequence[tuple[tarfile.TarInfo, bytes]]


def tar_of(members: Members) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return made.getvalue()


def lay(root: Path, *layers: Members, size: int = 1000, entries: int = 1000) -> None:
    root.mkdir(exist_ok=True)
    budget = Budget(threading.Event(), size=size, entries=entries)
    for layer in layers:
        apply_layer(io.BytesIO(tar_of(layer)), root, budget)


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): str(path.readlink()) if path.is_symlink() else path.read_text()
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_layers_lie_over_each_other(root: Path) -> None:
    lay(
        root,
        [file("a/kept", b"1"), file("a/gone", b"1"), file("b/x", b"1"), file("c", b"1")],
        [file("a/.wh.gone"), file("a/new", b"2"), directory("c"), file("c/now/a/dir", b"2")],
        [file("b/.wh..wh..opq"), file("b/y", b"3")],
    )

    assert tree(root) == {"a/kept": "1", "a/new": "2", "b/y": "3", "c/now/a/dir": "2"}


def test_a_layer_hides_only_what_is_below_it(root: Path) -> None:
    lay(
        root,
        [file("a/old", b"1"), file("a/sub/old", b"1")],
        [file("a/sub/new", b"2"), file("a/new", b"2"), file("a/.wh..wh..opq"), file("a/.wh.new")],
    )

    assert tree(root) == {"a/new": "2", "a/sub/new": "2"}


def test_links_and_modes_are_kept(root: Path) -> None:
    lay(
        root,
        [
            file("bin/tool", b"x", 0o4755),
            link("bin/same", "bin/tool", tarfile.LNKTYPE),
            link("etc/mtab", "/proc/mounts"),
            directory("tmp", 0o1777),
        ],
    )

    assert (root / "bin/tool").stat().st_mode & 0o7777 == 0o4755
    assert (root / "bin/same").samefile(root / "bin/tool")
    assert os.readlink(root / "etc/mtab") == "/proc/mounts"
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_links_to_directories_are_followed_inside_the_image(root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    lay(
        root,
        [directory("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr/lib")],
        [file("lib/one", b"1"), file("abs/two", b"2")],
        [link("up", "../../../outside"), link("out", str(tmp_path / "outside"))],
        [file("up/three", b"3"), file("out/four", b"4")],
    )

    assert (root / "usr/lib/one").read_text() == "1"
    assert (root / "usr/lib/two").read_text() == "2"
    assert (root / "outside/three").read_text() == "3"
    assert not list((tmp_path / "outside").iterdir())


def test_a_file_takes_the_place_of_a_link_and_does_not_follow_it(
    root: Path, tmp_path: Path
) -> None:
    (tmp_path / "target").write_text("mine")
    lay(root, [link("x", str(tmp_path / "target"))], [file("x", b"image's")])

    assert (tmp_path / "target").read_text() == "mine"
    assert tree(root) == {"x": "image's"}


def test_devices_below_dev_are_left_out(root: Path) -> None:
    lay(root, [directory("dev"), device("dev/null")])

    assert not list((root / "dev").iterdir())


@pytest.mark.parametrize(
    ("members", "words"),
    [
        pytest.param([file("../x")], "'../x': leads out", id="up"),
        pytest.param([file("a/../../x")], "leads out", id="up-inside"),
        pytest.param([file("a/.wh...")], "leads out", id="whiteout-of-the-parent"),
        pytest.param([link("x", "../secret", tarfile.LNKTYPE)], "leads out", id="hard-link"),
        pytest.param([device("null")], "a device outside /dev", id="device"),
        pytest.param(
            [link("dev", "/etc"), device("dev/x")], "a device outside", id="device-by-link"
        ),
        pytest.param([link("x", "y"), link("y", "x"), file("x/z")], "too many links", id="circle"),
        pytest.param([file("a"), file("a/b")], "a/b|Not a directory", id="below-a-file"),
        pytest.param([file("a", b"x" * 1001)], "larger than images may be", id="size"),
        pytest.param([file(f"{n}") for n in range(1001)], "larger than", id="entries"),
    ],
)
def test_a_layer_that_can_not_be_trusted_is_refused(
    root: Path, tmp_path: Path, members: Members, words: str
) -> None:
    (tmp_path / "secret").write_text("mine")

    with pytest.raises((ContainerError, OSError), match=words):
        lay(root, members)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["root", "secret"]


def test_an_absolute_name_is_one_of_the_image(root: Path) -> None:
    lay(root, [file("/etc/passwd", b"x")])

    assert tree(root) == {"etc/passwd": "x"}


def test_programs_are_found_as_the_image_would(root: Path) -> None:
    lay(
        root, [file("busybox", b"x", 0o755), link("bin/sh", "/busybox"), link("bin/no", "/bin/sh2")]
    )
    lay(root, [file("data", b"x", 0o644)])

    assert has_program(root, "/bin/sh")
    assert not has_program(root, "/bin/no")
    assert not has_program(root, "/data")
    assert resolve(root, parts_of("bin/sh")) == root / "busybox"


def image_files(*layers: bytes, **config: object) -> dict[str, bytes]:
    """What ``docker save`` writes of an image, by name."""
    digests = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": names}]
    raw = {"config": config, "rootfs": {"diff_ids": digests}}
    return {
        **dict(zip(names, layers, strict=True)),
        "c.json": json.dumps(raw).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }


def archive_of(files: dict[str, bytes]) -> bytes:
    return tar_of([file(name, content) for name, content in files.items()])


HELLO = tar_of([file("hello", b"hello")])


def provision(base: Path, name: str = "web") -> Path:
    return asyncio.run(Images(base, base / "store").provision(name)).rootfs


def test_an_image_is_the_same_packed_or_not(tmp_path: Path) -> None:
    (tmp_path / "web.tar").write_bytes(archive_of(image_files(HELLO)))
    (tmp_path / "packed.tar").write_bytes(gzip.compress(archive_of(image_files(HELLO))))

    assert provision(tmp_path) == provision(tmp_path, "packed")
    assert tree(provision(tmp_path)) == {"hello": "hello"}


def test_one_store_directory_serves_launches_at_once(tmp_path: Path) -> None:
    (tmp_path / "web.tar").write_bytes(archive_of(image_files(HELLO)))

    async def all_at_once() -> set[Path]:
        # Each has its own locks, as agents that share a store have.
        several = [Images(tmp_path, tmp_path / "store") for _ in range(4)]
        found = await asyncio.gather(*(images.provision("web") for images in several * 3))
        return {image.rootfs for image in found}

    [rootfs] = asyncio.run(all_at_once())
    assert tree(rootfs) == {"hello": "hello"}
    assert [path.name for path in (tmp_path / "store").iterdir()] == [rootfs.parent.name]


def test_a_changed_archive_is_another_image(tmp_path: Path) -> None:
    images = Images(tmp_path, tmp_path / "store")
    (tmp_path / "web.tar").write_bytes(archive_of(image_files(HELLO)))
    before = asyncio.run(images.provision("web"))
    (tmp_path / "new.tar").write_bytes(archive_of(image_files(HELLO, tar_of([file("more")]))))
    (tmp_path / "new.tar").rename(tmp_path / "web.tar")

    after = asyncio.run(images.provision("web"))

    assert set(tree(after.rootfs)) == {"hello", "more"}
    assert set(tree(before.rootfs)) == {"hello"}


WITHOUT_CONFIG = {k: v for k, v in image_files(HELLO).items() if k != "c.json"}
OTHER_LAYER = {**image_files(HELLO), "0/layer.tar": tar_of([file("evil")])}
TORN = archive_of(image_files(HELLO, tar_of([file("big", b"x" * 5000)])))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"garbage" * 500, "is no image", id="garbage"),
        pytest.param(b"", "is no image", id="empty"),
        pytest.param(gzip.compress(b"garbage" * 500), "is no image", id="packed-garbage"),
        pytest.param(archive_of({"x": b""}), "neither manifest.json", id="another-archive"),
        pytest.param(archive_of({"manifest.json": b"{"}), "manifest.json: ", id="torn-manifest"),
        pytest.param(archive_of(WITHOUT_CONFIG), "c.json: is not in the archive", id="no-config"),
        pytest.param(archive_of(OTHER_LAYER), "and not the image's sha256", id="another-layer"),
        pytest.param(gzip.compress(TORN)[:-40], "web.tar: ", id="torn-packed"),
        pytest.param(
            archive_of(image_files(b"\x28\xb5\x2f\xfd" + b"x" * 99)), "zstd", id="zstd-layer"
        ),
        pytest.param(archive_of(image_files(b"no tar" * 200)), "is no image", id="garbage-layer"),
    ],
)
def test_an_archive_that_is_no_image_is_named_and_leaves_nothing(
    tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "web.tar").write_bytes(content)

    with pytest.raises(ContainerError, match=f"image 'web': .*{words}"):
        provision(tmp_path)

    assert not list((tmp_path).glob("store/*")) + list((tmp_path).glob("store/.*"))


def test_an_image_that_is_nowhere_names_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match=r"'web': neither .*/web:latest.tar nor .*/web.tar"):
        provision(tmp_path)


def test_without_a_registry_there_is_nowhere_to_look(tmp_path: Path) -> None:
    with pytest.raises(ContainerError, match="no --docker-registry"):
        asyncio.run(Images(None, tmp_path).provision("web"))


def test_what_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "web.tar"
    path.write_bytes(archive_of(image_files(HELLO)))
    stop = threading.Event()
    stop.set()

    with pytest.raises(ContainerError, match="nobody waits"):
        install(path, Wanted(None, is_exact=True), tmp_path / "store", stop)

    assert not list((tmp_path / "store").iterdir())


def test_what_was_cut_short_is_removed_and_what_is_under_way_is_not(tmp_path: Path) -> None:
    for name in (".new-left", ".new-busy", "digest"):
        (tmp_path / name / "rootfs").mkdir(parents=True)
    busy = os.open(tmp_path / ".new-busy", os.O_RDONLY)
    fcntl.flock(busy, fcntl.LOCK_EX)

    remove_unfinished(tmp_path)

    os.close(busy)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".new-busy", "digest"]
    remove_unfinished(tmp_path / "nosuch")


PASSWD = "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n"
GROUP = "root:x:0:\nteam:x:50:\n"


@pytest.mark.parametrize(
    ("user", "ids"),
    [
        ("web", (33, 34)),
        ("33", (33, 34)),
        ("1000", (1000, 0)),
        ("web:team", (33, 50)),
        ("7:8", (7, 8)),
    ],
)
def test_an_images_user_is_found_in_its_own_tables(user: str, ids: tuple[int, int]) -> None:
    assert resolve_user(user, PASSWD, GROUP) == ids


@pytest.mark.parametrize("user", ["nobody", "web:nogroup"])
def test_an_images_user_that_it_does_not_have_is_refused(user: str) -> None:
    with pytest.raises(ContainerError, match=r"User: .*: is not in its /etc/"):
        resolve_user(user, PASSWD, GROUP)
