"""What a network gives addresses from; pure."""

from dataclasses import dataclass

from phalanx.net.model.objects import IPAddress, IPNetwork


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses of one family that containers of a node may have on a network.

    *spans*, first and last address each, are the part of the subnet that may
    be given, in order of preference; none means all of it.
    """

    subnet: IPNetwork
    gateway: IPAddress
    spans: tuple[tuple[IPAddress, IPAddress], ...] = ()

    @property
    def numbers(self) -> tuple[range, ...]:
        """Return what may be given, but for the gateway, as numbers.

        A subnet's first address is nobody's, and neither is IPv4's last.
        """
        first, last = int(self.subnet.network_address), int(self.subnet.broadcast_address)
        usable = range(first + 1, last + (self.subnet.version == 6))
        if not self.spans:
            return (usable,)
        return tuple(
            range(max(int(one), usable.start), min(int(other) + 1, usable.stop))
            for one, other in self.spans
        )

    def address(self, number: int) -> IPAddress:
        """Return the address of a number."""
        return type(self.subnet.network_address)(number)

    def __contains__(self, address: IPAddress) -> bool:
        return any(int(address) in numbers for numbers in self.numbers)

    def __str__(self) -> str:
        spans = [each for each in self.numbers if each]
        shown = (f"{self.address(each[0])}-{self.address(each[-1])}" for each in spans)
        return ",".join(shown) or str(self.subnet)
