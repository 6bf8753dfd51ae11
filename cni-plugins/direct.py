"""Do the plane's work in process, once: for a node on which no plane listens.

Standard input is the request that the plane would have got. Everything heavy
is imported when it is known to be needed, so that importing this module costs
what the standard library costs.
"""

import sys
from contextlib import ExitStack
from pathlib import Path

from phalanx.cni.phalanx_net import finish, parse, write

TYPE_CHECKING = False  # typing takes longer to load than a lease to write
if TYPE_CHECKING:
    from phalanx.net.attachment.bridge import LeasedNetwork
    from phalanx.net.attachment.request import Request
    from phalanx.net.attachment.standin import StandIn
    from phalanx.net.model.objects import IPNetwork
    from phalanx.net.nft.dump import Interval

LEASES = "/var/lib/phalanx/ipam"  # unless the configuration says dataDir
BARE = "--answer"  # print the plane's answer, not what a runtime reads


def main() -> int:
    """Answer the request on standard input; return the exit status."""
    raw = parse(sys.stdin.buffer.read())
    request = raw if isinstance(raw, dict) else {}
    config = request.get("config", {})
    version = str(config.get("cniVersion", "0.1.0"))
    if BARE in sys.argv[1:]:
        write(answer(request))
        return 0
    return finish(request.get("command"), version, answer(request))


def answer(raw: dict[str, object]) -> dict[str, object]:
    """Carry out one request in this process's network namespace.

    The network is the configuration's own, or else the one that the last plane
    on *stand_in*, the path of its socket, left word of.
    """
    import structlog

    from phalanx.core.error import PhalanxError
    from phalanx.net.attachment.attachments import Attachments
    from phalanx.net.attachment.commands import carry_out
    from phalanx.net.attachment.error import CniError, Code, cni_error
    from phalanx.net.attachment.kernel import KernelLinks
    from phalanx.net.attachment.ports import KernelHostPorts
    from phalanx.net.attachment.request import parse_network, parse_request
    from phalanx.net.attachment.standin import load_stand_in, standing_in
    from phalanx.net.ipam.store import AddressStore, boot_id

    # A runtime reads what goes to standard output.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    try:
        request = parse_request(raw)
        config = raw["config"] if isinstance(raw["config"], dict) else {}
        own, socket = parse_network(config), Path(str(raw.get("stand_in") or ""))
        left = None if own is not None or not socket.name else load_stand_in(socket)
        if own is None and left is None:
            raise CniError(Code.BAD_CONFIG, "subnet or subnet6: is required without a plane")
        place = str(config.get("dataDir", LEASES)) if left is None else left.leases

        def network() -> "LeasedNetwork":
            return own if own is not None else _left(left, request)

        with ExitStack() as stack:
            if left is not None:
                stack.enter_context(standing_in(socket))
            links = KernelLinks()
            stack.callback(links.close)
            leases = AddressStore(Path(place), boot=boot_id())
            attachments = Attachments(links, leases, KernelHostPorts())
            return {"result": links.run(lambda: carry_out(attachments, request, network))}
    except PhalanxError as error:
        return {"error": cni_error(error).as_json()}


def _left(left: "StandIn | None", request: "Request") -> "LeasedNetwork":
    """Return a network as the last plane left it; raise CniError unless its walls still stand."""
    from phalanx.net.attachment.error import CniError, Code
    from phalanx.net.attachment.request import Command

    code = Code.NOT_AVAILABLE if request.command is Command.STATUS else Code.TRY_LATER
    network = None if left is None else left.networks.get(request.network)
    if left is None or network is None:
        raise CniError(
            code, f"no plane listens, and the last one knew no network {request.network!r} here"
        )
    if not _is_walled(left.walls, network):
        raise CniError(
            code, f"no plane listens, and the walls of network {network.name!r} do not stand"
        )
    return network


def _is_walled(table: str, network: "LeasedNetwork") -> bool:
    """Tell whether the table holds the network's prefixes, each as an interval of its own."""
    from phalanx.net.nft.dump import dump_intervals

    prefixes = {f"networks{each.prefix.version}": each.prefix for each in network.subnets}
    found = dump_intervals(table, prefixes)
    return found is not None and all(
        _interval(prefix) in found[name] for name, prefix in prefixes.items()
    )


def _interval(prefix: "IPNetwork") -> "Interval":
    after = int(prefix.broadcast_address) + 1
    size = prefix.max_prefixlen // 8
    end = b"" if after >> prefix.max_prefixlen else after.to_bytes(size, "big")
    return prefix.network_address.packed, end


if __name__ == "__main__":
    sys.exit(main())
