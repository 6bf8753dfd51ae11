"""A service manager that keeps our sockets while we restart: systemd's file descriptor store.

It hands them over as ``LISTEN_FDS`` from descriptor 3 on, and takes them by a
message to ``NOTIFY_SOCKET`` (sd_listen_fds(3), sd_pid_notify_with_fds(3)). Its
unit needs ``FileDescriptorStoreMax=``. Without such a manager nothing happens.
"""

import os
import socket
from collections.abc import Mapping

import structlog

log = structlog.get_logger()

FIRST = 3  # the first descriptor that is handed over


class SocketStore:
    """The sockets that a process before us left, and the place for ours."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self._notify = environ.get("NOTIFY_SOCKET", "")
        count = 0
        if environ.get("LISTEN_PID") == str(os.getpid()):
            count = int(environ.get("LISTEN_FDS", "0"))
        names = environ.get("LISTEN_FDNAMES", "").split(":")
        self._left: list[tuple[str, socket.socket]] = []
        for number in range(count):
            os.set_inheritable(FIRST + number, False)
            sock = socket.socket(fileno=FIRST + number)
            sock.setblocking(False)
            self._left.append((names[number] if number < len(names) else "", sock))

    @property
    def keeps(self) -> bool:
        """Tell whether there is a manager that may keep our sockets while we restart."""
        return bool(self._notify)

    def take(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket | None:
        """Return the socket of *kind* that was left for this place, None without; port 0 is any."""
        for at, (_, sock) in enumerate(self._left):
            host, number = sock.getsockname()[:2]
            if sock.type == kind and host == address and port in (0, number):
                return self._left.pop(at)[1]
        return None

    def keep(self, sock: socket.socket) -> None:
        """Let the manager keep *sock*, too."""
        self._say(f"FDSTORE=1\nFDNAME={_name_of(sock)}\n", sock)

    def forget(self, kind: socket.SocketKind, address: str, port: int) -> None:
        """Let the manager close its copy of the socket of *kind* there, so that the place is free.

        Ours may be closed already.
        """
        self._say(f"FDSTOREREMOVE=1\nFDNAME={_name(kind, address, port)}\n")

    def forget_rest(self) -> None:
        """Close what nobody took, here and at the manager."""
        for name, sock in self._left:
            sock.close()
            self._say(f"FDSTOREREMOVE=1\nFDNAME={name}\n")
        self._left.clear()

    def _say(self, message: str, *sockets: socket.socket) -> None:
        if not self._notify:
            return
        place = f"\0{self._notify[1:]}" if self._notify.startswith("@") else self._notify
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
                manager.connect(place)
                socket.send_fds(manager, [message.encode()], [each.fileno() for each in sockets])
        except OSError as error:
            log.warning("service_manager_not_told", error=str(error))


def _name_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return _name(socket.SocketKind(sock.type), host, port)


def _name(kind: socket.SocketKind, host: str, port: int) -> str:
    """Return a name without colons, which separate names."""
    return f"{kind.name.lower()}-{host.replace(':', '.')}-{port}"
