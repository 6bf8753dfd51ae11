"""Do the plane's work in process, once: for a node on which no plane listens.

Standard input is the request that the plane would have got. Everything heavy
is imported when it is known to be needed, so that importing this module costs
what the standard library costs.
"""

import sys
from pathlib import Path

from phalanx.cni.phalanx_net import finish, parse

LEASES = "/var/lib/phalanx/ipam"  # unless the configuration says dataDir


def main() -> int:
    """Answer the request on standard input; return the exit status."""
    raw = parse(sys.stdin.buffer.read())
    request = raw if isinstance(raw, dict) else {}
    config = request.get("config", {})
    version = str(config.get("cniVersion", "0.1.0"))
    return finish(request.get("command"), version, answer(request))


def answer(raw: dict[str, object]) -> dict[str, object]:
    """Carry out one request in this process's network namespace."""
    from phalanx.core.error import PhalanxError
    from phalanx.net.attachment.attachments import Attachments
    from phalanx.net.attachment.commands import carry_out
    from phalanx.net.attachment.error import CniError, Code, cni_error
    from phalanx.net.attachment.kernel import KernelLinks
    from phalanx.net.attachment.ports import KernelHostPorts
    from phalanx.net.attachment.request import parse_network, parse_request
    from phalanx.net.ipam.store import AddressStore, boot_id

    try:
        request = parse_request(raw)
        config = raw["config"] if isinstance(raw["config"], dict) else {}
        network = parse_network(config)
        if network is None:
            raise CniError(Code.BAD_CONFIG, "subnet or subnet6: is required without a plane")
        leases = AddressStore(Path(str(config.get("dataDir", LEASES))), boot=boot_id())
        links = KernelLinks()
        try:
            attachments = Attachments(links, leases, KernelHostPorts())
            return {"result": links.run(lambda: carry_out(attachments, request, lambda: network))}
        finally:
            links.close()
    except PhalanxError as error:
        return {"error": cni_error(error).as_json()}


if __name__ == "__main__":
    sys.exit(main())
