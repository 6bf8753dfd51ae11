"""The image of the process that holds a container's network before its command runs; pure.

A Docker engine makes a container's network namespace when it starts its first
process. So that no command runs before its network is whole, another container
is started first, whose only process sleeps for ever, and the command's container
joins it. The image of that process is made here: one file, nothing else.
"""

import io
import struct
import tarfile

from phalanx.core.error import ContainerError

PROGRAM = "pause"
BASE = 0x400000
HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SEGMENT = struct.Struct("<IIQQQQQQ")
IDENTITY = b"\x7fELF\x02\x01\x01" + bytes(9)  # 64 bits, little-endian

# For each machine: its ELF number and a loop around a system call that sleeps.
CODE = {
    # mov eax, 34 (pause); syscall; jmp to the start
    "x86_64": (62, bytes.fromhex("b8220000000f05ebf7")),
    # mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b to the start
    "aarch64": (
        183,
        struct.pack(
            "<8I",
            *(0xD2800000, 0xD2800001, 0xD2800002, 0xD2800003),
            *(0xD2800004, 0xD2800928, 0xD4000001, 0x17FFFFF9),
        ),
    ),
}


def pause_program(machine: str) -> bytes:
    """Return a program that does nothing until it is killed; raise ContainerError."""
    if machine not in CODE:
        raise ContainerError(f"docker: networks on {machine!r}: are not supported")
    number, code = CODE[machine]
    start = HEADER.size + SEGMENT.size
    length = start + len(code)
    header = HEADER.pack(
        *(IDENTITY, 2, number, 1, BASE + start, HEADER.size, 0, 0),
        *(HEADER.size, SEGMENT.size, 1, 0, 0, 0),
    )
    segment = SEGMENT.pack(
        1, 5, 0, BASE, BASE, length, length, 0x10000 if number == 183 else 0x1000
    )
    return header + segment + code


def pause_image(machine: str) -> bytes:
    """Return the tar that an engine imports as the image; the same bytes each time."""
    program = pause_program(machine)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        member = tarfile.TarInfo(PROGRAM)
        member.size = len(program)
        member.mode = 0o755
        tar.addfile(member, io.BytesIO(program))
    return made.getvalue()
