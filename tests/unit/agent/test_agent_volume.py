"""Volumes: what is asked for and where it comes from, as tables; and where persistent ones lie."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from phalanx.agent.bundle.request import ContainerRequest, Kind, id_message
from phalanx.agent.container.disk import disk_quotas, rendered, used_bytes
from phalanx.agent.volume.mounting import check_targets
from phalanx.agent.volume.persistent import create_volume, destroy_volume, path_of
from phalanx.agent.volume.plan import Wanted, wanted_volumes
from phalanx.core.error import ContainerError
from phalanx.mesos.resources import Resources
from phalanx.mesos.v1.codec import from_json
from phalanx.mesos.v1.mesos import ContainerInfo, Resource

INSIDE = "/mnt/mesos/sandbox"


def asked(volume: dict[str, Any], name: str = "c1", kind: Kind = "task") -> ContainerRequest:
    info = {"type": "MESOS", "volumes": [{"mode": "RW", "container_path": "data", **volume}]}
    sandbox = "/sandboxes/" + "/containers/".join(name.split("."))
    return ContainerRequest(
        container_id=id_message(name),
        kind=kind,
        sandbox=Path(sandbox),
        container=from_json(ContainerInfo, info),
    )


DATA = f"{INSIDE}/data"


@pytest.mark.parametrize(
    ("volume", "wanted"),
    [
        pytest.param({"host_path": "/srv"}, Wanted("host", DATA, "rw", "/srv"), id="host-path"),
        pytest.param(
            {"host_path": "/srv", "mode": "RO", "container_path": "/opt"},
            Wanted("host", "/opt", "ro", "/srv"),
            id="absolute-and-read-only",
        ),
        pytest.param(
            {"host_path": "mine"},
            Wanted("sandbox", DATA, "rw", "/sandboxes/c1/mine", top="/sandboxes/c1"),
            id="relative-host-path",
        ),
        pytest.param(
            {
                "source": {
                    "type": "HOST_PATH",
                    "host_path": {
                        "path": "/srv",
                        "mount_propagation": {"mode": "BIDIRECTIONAL"},
                    },
                }
            },
            Wanted("host", DATA, "rw", "/srv", "rshared"),
            id="propagated",
        ),
        pytest.param(
            {
                "source": {
                    "type": "SANDBOX_PATH",
                    "sandbox_path": {"type": "SELF", "path": "a/b"},
                }
            },
            Wanted("sandbox", DATA, "rw", "/sandboxes/c1/a/b", top="/sandboxes/c1"),
            id="own-sandbox",
        ),
        pytest.param(
            {"image": {"type": "DOCKER", "docker": {"name": "web"}, "cached": False}},
            Wanted("image", DATA, "rw", "web", is_cached=False),
            id="image",
        ),
    ],
)
def test_a_volume_is_what_it_is_asked_to_be(volume: dict[str, Any], wanted: Wanted) -> None:
    assert wanted_volumes(asked(volume), INSIDE, "/var/agent") == (wanted,)


def test_a_nested_container_may_have_a_part_of_its_parents_sandbox() -> None:
    source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "shared"}}

    [found] = wanted_volumes(asked({"source": source}, "pod.a", "nested"), INSIDE, "/w")

    assert (found.source, found.top) == ("/sandboxes/pod/shared", "/sandboxes/pod")


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        pytest.param({}, "needs one of host_path", id="nothing"),
        pytest.param({"host_path": "/a", "container_path": "../x"}, "container_path", id="above"),
        pytest.param({"host_path": "/a", "container_path": "/"}, "container_path", id="root"),
        pytest.param(
            {"source": {"sandbox_path": {"type": "SELF", "path": "../x"}}},
            "not in a sandbox",
            id="sandbox-path-above",
        ),
        pytest.param(
            {"source": {"sandbox_path": {"type": "PARENT", "path": "x"}}},
            "there is no parent",
            id="no-parent",
        ),
        pytest.param(
            {"source": {"type": "DOCKER_VOLUME", "docker_volume": {"name": "v", "driver": "nfs"}}},
            "driver 'nfs': only the Docker containerizer mounts",
            id="docker-volume",
        ),
        pytest.param({"image": {"type": "APPC", "appc": {"name": "x"}}}, "only DOCKER", id="appc"),
    ],
)
def test_what_can_not_be_a_volume_is_refused(volume: dict[str, Any], words: str) -> None:
    with pytest.raises(ContainerError, match=words):
        wanted_volumes(asked(volume), INSIDE, "/w")


def persistent(name: str = "v1", size: float = 5, **disk: Any) -> dict[str, Any]:
    return {
        "name": "disk",
        "type": "SCALAR",
        "scalar": {"value": size},
        "reservations": [{"type": "DYNAMIC", "role": "eng/db"}],
        "disk": {
            "persistence": {"id": name},
            "volume": {"container_path": "data", "mode": "RW"},
            **disk,
        },
    }


def resource(name: str = "v1", **disk: Any) -> Resource:
    return from_json(Resource, persistent(name, **disk))


@pytest.mark.parametrize(
    ("disk", "path"),
    [
        pytest.param({}, "/w/volumes/roles/eng db/v1", id="root"),
        pytest.param(
            {"source": {"type": "PATH", "path": {"root": "/mnt/a"}}},
            "/mnt/a/volumes/roles/eng db/v1",
            id="path",
        ),
        pytest.param(
            {"source": {"type": "PATH", "path": {"root": "disks/a"}}},
            "/w/disks/a/volumes/roles/eng db/v1",
            id="relative-path",
        ),
        pytest.param(
            {"source": {"type": "MOUNT", "mount": {"root": "/mnt/b"}}}, "/mnt/b", id="mount"
        ),
    ],
)
def test_a_persistent_volume_lies_below_its_disk_by_its_role(
    disk: dict[str, Any], path: str
) -> None:
    assert path_of(resource(**disk), "/w") == path


def test_a_persistent_volume_is_mounted_where_its_disk_says() -> None:
    request = ContainerRequest(
        container_id=id_message("c1"),
        kind="task",
        sandbox=Path("/sandboxes/c1"),
        resources=Resources.of([resource()]),
    )

    [found] = wanted_volumes(request, INSIDE, "/w")

    assert found == Wanted("persistent", DATA, "rw", "/w/volumes/roles/eng db/v1")


@pytest.mark.parametrize(
    ("path", "mode", "expected"),
    [
        ("data", "RW", Wanted("persistent", DATA, "rw", "/w/volumes/roles/eng db/v1")),
        ("data/", "RO", Wanted("persistent", DATA, "ro", "/w/volumes/roles/eng db/v1")),
        ("other", "RW", Wanted("sandbox", DATA, "rw", "/sandboxes/pod/other",
                               top="/sandboxes/pod")),
    ],
)  # fmt: skip
def test_a_parents_persistent_volume_is_had_by_its_place_in_the_parents_sandbox(
    path: str, mode: str, expected: Wanted
) -> None:
    source = {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": path}}
    request = replace(
        asked({"source": source, "mode": mode}, "pod.a", "nested"),
        parent_volumes=Resources.of([resource()]),
    )

    assert wanted_volumes(request, INSIDE, "/w") == (expected,)


@pytest.mark.parametrize("name", ["", "..", "a/b"])
def test_the_id_of_a_volume_is_a_name(name: str) -> None:
    with pytest.raises(ContainerError, match=r"persistence\.id"):
        path_of(resource(name), "/w")


def test_a_volume_is_made_once_and_removed_for_good(tmp_path: Path) -> None:
    work = str(tmp_path)
    place = Path(path_of(resource(), work))

    create_volume(resource(), work)
    (place / "file").write_text("kept")
    create_volume(resource(), work)
    assert (place / "file").read_text() == "kept"
    destroy_volume(resource(), work)
    destroy_volume(resource(), work)

    assert not place.exists()


def test_of_a_mounted_disk_only_the_content_goes(tmp_path: Path) -> None:
    mounted = resource(source={"type": "MOUNT", "mount": {"root": str(tmp_path)}})
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_text("x")

    destroy_volume(mounted, "/nowhere")

    assert list(tmp_path.iterdir()) == []


def test_a_sandbox_and_each_volume_have_a_quota_of_their_own() -> None:
    asked = Resources.parse("disk:3") + Resources.of([resource()])

    found = disk_quotas(asked, "/s", "/w")

    assert found == {"/s": 3 * 1024**2, "/w/volumes/roles/eng db/v1": 5 * 1024**2}
    assert disk_quotas(Resources.parse("cpus:1"), "/s", "/w") == {"/s": None}


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to("a")

    assert 100_000 <= used_bytes(str(tmp_path)) < 150_000
    assert used_bytes(str(tmp_path / "gone")) == 0


@pytest.mark.parametrize(
    ("size", "words"), [(10, "10B"), (2048, "2KB"), (3 * 1024**2, "3MB"), (1025, "1025B")]
)
def test_sizes_are_rendered_as_mesos_does(size: int, words: str) -> None:
    assert rendered(size) == words


@pytest.mark.parametrize(
    ("target", "words"),
    [
        pytest.param("data", None, id="made-in-the-sandbox"),
        pytest.param("inner/data", None, id="behind-a-link-that-stays"),
        pytest.param("away/data", "leads out of the sandbox", id="behind-a-link-that-leads-out"),
        pytest.param("away", "leads out of the sandbox", id="a-link-that-leads-out"),
        pytest.param("/usr", None, id="there-on-the-host"),
        pytest.param("/usr/nowhere/here", "is not there on the host", id="not-there"),
        pytest.param("/run/service", None, id="below-what-is-the-containers-own"),
    ],
)
def test_a_volume_makes_nothing_outside_the_sandbox(
    tmp_path: Path, target: str, words: str | None
) -> None:
    sandbox = tmp_path / "sandbox"
    (sandbox / "real").mkdir(parents=True)
    (sandbox / "inner").symlink_to("real")
    (sandbox / "away").symlink_to(tmp_path / "missing")
    wanted = (Wanted("host", str(sandbox / target), "rw", "/srv"),)
    refused = pytest.raises(ContainerError, match=words) if words else nullcontext()

    with refused:
        check_targets(wanted, str(sandbox))
