"""Which elements are whose: files on disk beside the kernel's sets.

One process at a time changes both, under a lock. A file is written before
its elements and removed after them, so whoever dies between the two leaves
nothing that can't be found. The files are below /run, which a reboot empties
together with the sets; those of each network namespace are apart.
"""

import posix
from _sha1 import sha1  # type: ignore[import-not-found]  # hashlib loads OpenSSL
from fcntl import LOCK_EX, flock

from phalanx.net.hostport.exec import nft, nft_says
from phalanx.net.hostport.flow import forget
from phalanx.net.hostport.layout import TABLE, TEXT
from phalanx.net.netlink import file
from phalanx.net.netlink.nft import INET, Element, add, delete, has_set, is_there
from phalanx.net.netlink.wire import NETFILTER, Conversation, Message, namespace_cookie, refusal

TYPE_CHECKING = False  # typing takes longer to load than an element to write
if TYPE_CHECKING:
    from collections.abc import Callable

    from phalanx.net.hostport.condition import Condition

DIRECTORY = "/run/phalanx/cni"
ENOENT, EEXIST = 2, 17


class TakenError(Exception):
    """An element that can be of one owner is another's."""


class Locked:
    """The lock on a directory, from `__enter__` to `__exit__`, whatever goes wrong between them."""

    def __init__(self, directory: str) -> None:
        self._path = f"{directory}/.lock"
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = file.lock_file(self._path)
        try:
            flock(self._descriptor, LOCK_EX)
        except BaseException:
            posix.close(self._descriptor)
            raise

    def __exit__(self, *_: object) -> None:
        posix.close(self._descriptor)


class Elements:
    """The elements of one owner on one network, made by one plugin.

    *render* and *parse* are JSON's, given because the plugin has quicker ones
    than the standard library's.
    """

    def __init__(
        self,
        network: str,
        owner: str,
        plugin: str,
        *,
        render: "Callable[[object], str]",
        parse: "Callable[[bytes], object]",
        directory: str = DIRECTORY,
        talk: "Conversation | None" = None,
    ) -> None:
        self._owner = owner
        self._plugin = plugin
        self._render = render
        self._parse = parse
        self._conversation: Conversation | None = talk  # the caller's to close
        self._root = f"{directory}/{namespace_cookie()}"
        self._place = f"{self._root}/{network}"
        self._file = f"{self._place}/{self._name_of(owner)}"

    def put(self, elements: list[Element], conditions: "list[Condition] | None" = None) -> None:
        """Add the elements, all or none; raise TakenError when one is another's, OSError.

        *conditions* are those that some of the elements go with; a ValueError
        is raised for one that can't be made.
        """
        if not elements:
            return
        elements = list({(e.family, e.set_name, e.key): e for e in elements}.values())
        file.make_folders(self._root)
        with Locked(self._root):
            file.make_folders(self._place)
            talk = self._talk()
            if file.exists(self._file):
                self._remove(talk, self._file, self._owner)
            for element in elements:
                # What has data is a host port, which may be another's; all else bears a name or
                # an address of the owner's, and if it is there nevertheless, the kernel says so.
                if element.data and is_there(talk, TABLE, element):
                    raise TakenError(f"{element.what or element.set_name} is taken already")
            kept = {
                "owner": self._owner,
                "plugin": self._plugin,
                "elements": [each.as_json() for each in elements],
            }
            draft = f"{self._root}/.draft"
            file.write(draft, self._render(kept).encode())
            posix.rename(draft, self._file)
            used = {each.set_name for each in elements}
            try:
                _make(talk, [each for each in conditions or [] if used & set(each.sets)])
            except BaseException:
                self._remove_conditions(talk, self._file, elements)
                file.remove(self._file)
                raise
            messages = [add(TABLE, each, self._owner) for each in elements]
            number = _number(talk.batch(messages))
            if number == ENOENT:
                if status := nft(TEXT):
                    raise refusal(ENOENT, f"table {TABLE}: nft ended with status {status}")
                number = _number(talk.batch(messages))
            if number:
                self._remove_conditions(talk, self._file, elements)
                file.remove(self._file)
                if number == EEXIST:
                    taken = [
                        each
                        for each in elements
                        if not each.is_shared and is_there(talk, TABLE, each)
                    ]
                    what = ", ".join(each.what or each.set_name for each in taken)
                    raise TakenError(f"{what} is taken already")
                raise refusal(number, f"table {TABLE}")
        forget(elements, mapped=True)

    def drop(self) -> None:
        """Remove the owner's elements; there don't have to be any."""
        if file.exists(self._file):
            with Locked(self._root):
                self._remove(self._talk(), self._file, self._owner)

    def drop_others(self, valid: set[str]) -> None:
        """Remove what the plugin made on the network for owners that are not valid."""
        if not file.exists(self._place):
            return
        with Locked(self._root):
            files = self._files(self._place)
            torn = self._owners_of_torn([path for path, kept in files if _is_torn(kept)])
            for path, kept in files:
                is_ours = path in torn or kept.get("plugin") == self._plugin
                owner = torn.get(path) or str(kept.get("owner"))
                if is_ours and owner not in valid:
                    self._remove(self._talk(), path, owner)

    def missing(self) -> list[str]:
        """Say which of the owner's elements the kernel lacks."""
        talk = self._talk()
        return [
            f"{each.what or each.set_name}: no element in table {TABLE}"
            for each in self.elements()
            if not is_there(talk, TABLE, each)
        ]

    def elements(self) -> list[Element]:
        """Return the elements that were put for the owner."""
        return _elements(self._read(self._file))

    def close(self) -> None:
        """Close the socket.

        The kernel lets go of it only when what was removed is freed, which
        takes 15 ms or so: a process that has more to do, does that first.
        """
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None

    def _talk(self) -> Conversation:
        if self._conversation is None:
            self._conversation = Conversation(NETFILTER)
        return self._conversation

    def _remove(self, talk: Conversation, path: str, owner: str) -> None:
        """Remove a file and its elements, but for those shared with another file."""
        elements = self._elements_in(talk, path, owner)
        shared = {(e.family, e.set_name, e.key) for e in elements if e.is_shared}
        if shared:
            for folder in _folders(self._root):
                for other, kept in self._files(folder):
                    if other != path:
                        shared -= {(e.family, e.set_name, e.key) for e in _elements(kept)}
                    if not shared:
                        break
        messages = [
            delete(TABLE, each)
            for each in elements
            if not each.is_shared or (each.family, each.set_name, each.key) in shared
        ]
        _delete(talk, messages)
        forget(elements, mapped=False)
        self._remove_conditions(talk, path, elements)
        file.remove(path)

    def _elements_in(self, talk: Conversation, path: str, owner: str) -> list[Element]:
        """Return the elements that a file names.

        Of one that is torn, those that bear the owner's comment in the kernel
        and are in no other file: the other plugins of a chain have the same owner.
        """
        kept = self._read(path)
        if not _is_torn(kept):
            return _elements(kept)
        from phalanx.net.hostport.torn import elements_of

        named = {
            (e.family, e.set_name, e.key)
            for folder in _folders(self._root)
            for _, other in self._files(folder)
            for e in _elements(other)
            if not e.is_shared
        }
        return [e for e in elements_of(talk, owner) if (e.family, e.set_name, e.key) not in named]

    def _owners_of_torn(self, paths: list[str]) -> dict[str, str]:
        """Return which torn files are the plugin's, and whose: a name is made of both."""
        if not paths:
            return {}
        from phalanx.net.hostport.torn import owners_of

        named = {f"{self._place}/{self._name_of(each)}": each for each in owners_of(self._talk())}
        return {path: named[path] for path in paths if path in named}

    def _name_of(self, owner: str) -> str:
        name: str = sha1(f"{owner} {self._plugin}".encode()).hexdigest()
        return name

    def _remove_conditions(self, talk: Conversation, path: str, elements: list[Element]) -> None:
        """Remove the maps and chains of conditions that no file but *path* has anything in."""
        unused = {each.set_name[3:] for each in elements if "_" in each.set_name}
        if not unused:
            return
        for folder in _folders(self._root):
            for other, kept in self._files(folder):
                if other != path:
                    unused -= {each.set_name[3:] for each in _elements(kept)}
        from phalanx.net.hostport.condition import removal

        for variant in sorted(unused):
            if has_set(talk, INET, TABLE, f"any{variant}") and (
                words := nft_says(removal(f"any{variant}"))
            ):
                raise OSError(22, f"table {TABLE}: {words}")

    def _files(self, folder: str) -> "list[tuple[str, dict[str, object]]]":
        return [
            (f"{folder}/{name}", self._read(f"{folder}/{name}")) for name in file.names_in(folder)
        ]

    def _read(self, path: str) -> dict[str, object]:
        try:
            value = self._parse(file.read(path))
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}


def _make(talk: Conversation, conditions: "list[Condition]") -> None:
    """Make the maps and chains of conditions that are not there."""
    for each in conditions:
        if not has_set(talk, INET, TABLE, each.sets[-1]) and (words := nft_says(each.script())):
            raise ValueError(f"conditionsV{each.family}: {each.words!r}: nft says: {words}")


def _delete(talk: Conversation, messages: list[Message]) -> None:
    """Remove elements in one transaction; one by one when some are gone already."""
    if not messages:
        return
    number = _number(talk.batch(messages))
    if number == ENOENT:
        for message in messages:
            number = _number(talk.batch([message]))
            if number not in (0, ENOENT):
                break
    if number not in (0, ENOENT):
        raise refusal(number, f"table {TABLE}")


def _number(numbers: list[int]) -> int:
    return next((number for number in numbers if number), 0)


def _elements(kept: dict[str, object]) -> list[Element]:
    listed = kept.get("elements")
    return [Element.of(item) for item in listed] if isinstance(listed, list) else []


def _is_torn(kept: dict[str, object]) -> bool:
    return not isinstance(kept.get("elements"), list)


def _folders(root: str) -> list[str]:
    return [f"{root}/{name}" for name in file.names_in(root) if name[:1] != "."]
