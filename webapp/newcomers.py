"""Newcomers: sent away by a service that ends, while it lets in who stands at its door.

The kernel completes connections on its own, and resets those that nobody has accepted when the
last process closes the socket. Between a worker's last look into that queue and its close, one
more may come in. So no more may come in before that look: the socket drops what asks for a new
connection (a SYN), its client asks again after a second (RFC 6298), and finds nobody listening.
"""

import ctypes
import socket
import struct
from contextlib import suppress
from typing import Any

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h; Python's socket module doesn't name it
_FLAGS = 13  # the byte of the TCP header with SYN in it (RFC 9293, 3.1)
_SYN = 0x02
# Classic BPF (linux/filter.h), an instruction a line: code, jump if true, if false, operand.
_NO_SYN = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, _FLAGS),  # load the byte
        (0x45, 0, 1, _SYN),  # is the bit set?
        (0x06, 0, 0, 0),  # yes: keep nothing of the packet
        (0x06, 0, 0, 0xFFFFFFFF),  # no: keep all
    )
)


def send_away(listener: socket.socket) -> None:
    """Let a listening socket take no new connection; who is in its queue can be accepted.

    It holds in all processes that have the socket, and for good.

    Raises:
        OSError: not on this system.
    """
    program = ctypes.create_string_buffer(_NO_SYN, len(_NO_SYN))
    address = ctypes.addressof(program)
    count = len(_NO_SYN) // struct.calcsize("=HBBI")
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", count, address))


def send_away_at_the_end(arbiter: Any) -> None:
    """Let gunicorn's master send newcomers away before it tells its workers to stop.

    Not if another master, or systemd, has the socket too: then they are let in there.
    """
    stop = arbiter.stop

    def stop_listening_first(graceful: bool = True) -> None:  # noqa: FBT001, FBT002 - as in gunicorn
        alone = arbiter.reexec_pid == arbiter.master_pid == 0 and not arbiter.systemd
        for listener in arbiter.LISTENERS if alone else []:
            if listener.sock.family in {socket.AF_INET, socket.AF_INET6}:
                with suppress(OSError):  # it is a kindness: the service ends without it too
                    send_away(listener.sock)
        stop(graceful)

    arbiter.stop = stop_listening_first
