"""Many nodes in one request: a multi of reads, known to servers since 3.6 and not to kazoo.

A request costs kazoo's threads a quarter of a millisecond, however little it
asks for: a leader that takes over reads thousands of nodes.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, Generic, TypeVar

from kazoo.client import KazooClient
from kazoo.exceptions import EXCEPTIONS, NoNodeError
from kazoo.interfaces import IAsyncResult
from kazoo.protocol.serialization import (
    GetChildren,
    GetData,
    MultiHeader,
    int_struct,
    read_buffer,
    stat_struct,
)
from kazoo.protocol.states import ZnodeStat

T_co = TypeVar("T_co", covariant=True)

Node = tuple[bytes, ZnodeStat]


class Reads(ABC, Generic[T_co]):
    """One request that reads the same of several nodes; its answer has None for one without."""

    type: ClassVar[int] = 22  # OpCode.multiRead of ZooKeeper

    def __init__(self, paths: Sequence[str]) -> None:
        self.paths = paths

    def ask(self, client: KazooClient) -> IAsyncResult:
        """Send the request; servers before 3.6 answer UnimplementedError."""
        result = client.handler.async_result()
        client._call(self, result)
        return result

    @staticmethod
    @abstractmethod
    def ask_one(client: KazooClient, path: str) -> IAsyncResult:
        """Ask one node, of servers that know nothing else."""

    def serialize(self) -> bytes:
        """Return the request as kazoo sends it."""
        raw = bytearray()
        for path in self.paths:
            read = self._read(path)
            raw += MultiHeader(read.type, False, -1).serialize() + read.serialize()
        return bytes(raw + MultiHeader(-1, True, -1).serialize())

    def deserialize(self, raw: bytes, offset: int) -> list[T_co | None]:
        """Return what the servers answered, in the order of the paths."""
        return list(self._answers(raw, offset))

    def _answers(self, raw: bytes, offset: int) -> Iterator[T_co | None]:
        header, offset = MultiHeader.deserialize(raw, offset)
        while not header.done:
            if header.type == -1:
                (code,) = int_struct.unpack_from(raw, offset)
                offset += int_struct.size
                if code != NoNodeError.code:
                    raise EXCEPTIONS[code]()
                yield None
            else:
                answer, offset = self._answer(raw, offset)
                yield answer
            header, offset = MultiHeader.deserialize(raw, offset)

    @abstractmethod
    def _read(self, path: str) -> GetData | GetChildren:
        """Return the request for one node."""

    @abstractmethod
    def _answer(self, raw: bytes, offset: int) -> tuple[T_co, int]:
        """Return what was read of one node, and where the next answer begins."""


class GetMany(Reads[Node]):
    """Reads values."""

    @staticmethod
    def ask_one(client: KazooClient, path: str) -> IAsyncResult:
        """Ask one node, of servers that know nothing else."""
        return client.get_async(path)

    def _read(self, path: str) -> GetData:
        return GetData(path, None)

    def _answer(self, raw: bytes, offset: int) -> tuple[Node, int]:
        data, offset = read_buffer(raw, offset)
        stat = ZnodeStat._make(stat_struct.unpack_from(raw, offset))
        return (data or b"", stat), offset + stat_struct.size


class ListMany(Reads[Sequence[str]]):
    """Reads the names of children."""

    @staticmethod
    def ask_one(client: KazooClient, path: str) -> IAsyncResult:
        """Ask one node, of servers that know nothing else."""
        return client.get_children_async(path)

    def _read(self, path: str) -> GetChildren:
        return GetChildren(path, None)

    def _answer(self, raw: bytes, offset: int) -> tuple[Sequence[str], int]:
        (count,) = int_struct.unpack_from(raw, offset)
        offset += int_struct.size
        names = []
        for _ in range(count):
            name, offset = read_buffer(raw, offset)
            names.append((name or b"").decode())
        return names, offset
