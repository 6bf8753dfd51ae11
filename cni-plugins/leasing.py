"""Leases of a virtual network's addresses: the plane of the node gives them.

They come out of the same subnet as those of containers that `phalanx-net`
attaches, so they are where the plane's leases are. Where no plane listens a
process stands in for it, if the last one left word of the network.
"""

from phalanx.cni.phalanx_net import (
    BAD_CONFIG,
    TRY_LATER,
    WORKER,
    NoPlaneError,
    Refusal,
    ask,
    environment,
    parse,
    render,
    stand_in_of,
)
from phalanx.cni.skeleton import INTERNAL, NOT_AVAILABLE, Call, Json
from phalanx.net.hostport.exec import talk

SOCKET = "/run/phalanx/cni.sock"  # where a plane listens unless it is told otherwise
PASSED_ON = ("runtimeConfig", "args", "prevResult", "cni.dev/valid-attachments")


def virtual_network(call: Call) -> str:
    """Return the virtual network that addresses are to come from, "" when they are from ranges."""
    ipam = call.inner(call.config, "ipam")
    network = call.text("network", "", ipam)
    if network and any(ipam.get(key) for key in ("subnet", "ranges")):
        raise Refusal(BAD_CONFIG, "ipam: network and ranges of its own do not go together")
    return network


def ask_delete(call: Call) -> None:
    """Free what the owner holds, whatever command it is that goes wrong or ends."""
    ask_plane(call, command="DEL")


def ask_plane(call: Call, *, command: str = "", take_over: bool = False) -> Json:
    """Carry out the call's command on the leases; raise Refusal with the plane's code and words.

    With *take_over* a lease that the owner holds is left from an ADD that died.
    """
    passed = {key: call.config[key] for key in PASSED_ON if call.config.get(key) is not None}
    attachments = call.config.get("cni.dev/attachments")
    if attachments is not None:
        passed.setdefault("cni.dev/valid-attachments", attachments)
    request = {
        "command": command or call.command,
        "container_id": call.container,
        "ifname": call.ifname,
        "args": ";".join(f"{key}={value}" for key, value in call.arguments.items()),
        "config": {"cniVersion": call.version, "name": virtual_network(call), **passed},
        "leases_of": call.network,
        "take_over": take_over,
    }
    path = call.text("socket", SOCKET, call.inner(call.config, "ipam")) or SOCKET
    try:
        answer = parse(ask(path, (render(request) + "\n").encode()))
    except NoPlaneError as error:
        interpreter = stand_in_of(path)
        if not interpreter:
            code = NOT_AVAILABLE if call.command == "STATUS" else TRY_LATER
            raise Refusal(code, f"no plane listens: {error}") from error
        raw = render({**request, "stand_in": path}).encode()
        arguments = [interpreter, "-Im", WORKER, "--answer"]
        output, status = talk(interpreter, arguments, environment(), raw)
        try:
            answer = parse(output)
        except ValueError:
            raise Refusal(INTERNAL, f"{WORKER}: status {status}, {output[:200]!r}") from error
    except ValueError as error:
        raise Refusal(TRY_LATER, f"{path}: the plane went away before it answered") from error
    found = answer if isinstance(answer, dict) else {}
    refused, result = found.get("error"), found.get("result")
    if isinstance(refused, dict):
        number = refused.get("code")
        raise Refusal(
            number if isinstance(number, int) else INTERNAL,
            str(refused.get("msg", "")),
            str(refused.get("details", "")),
        )
    return result if isinstance(result, dict) else {}
