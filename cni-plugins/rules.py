"""The rules that phalanx-bridge makes itself, so that a chain is one process."""

from phalanx.cni import fence, hostport, masquerade
from phalanx.cni.results import router_of
from phalanx.cni.skeleton import Call, Json
from phalanx.net.hostport.forward import accept


class Rules:
    """Masquerade, host ports and fences of one container, in one transaction."""

    def __init__(self, call: Call, *, masquerade: bool, guarded: bool) -> None:
        """Check what is asked for; raise Refusal when it can't be."""
        self._call = call
        self._masquerade = masquerade
        self._guarded = guarded
        self._ports = hostport.mappings(call)
        fence.check_policy(call)

    def add(self, result: Json) -> None:
        """Make the rules; raise Refusal or OSError, having made none."""
        elements = masquerade.elements(self._call, result) if self._masquerade else []
        elements += hostport.elements(self._call, self._ports, result)
        elements += fence.elements(self._call, result, is_guarded=self._guarded)
        hostport.store(self._call).put(elements, hostport.conditions(self._call))
        bridge = router_of(result)
        hostport.open_loopback(self._ports, bridge)
        if self._call.config.get("ingressPolicy"):
            accept(bridge, fence.families(result))
