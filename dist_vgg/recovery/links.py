"""The links between hosts: idle connections, by which the system notices a host that is cut off.

MPI waits for a host that doesn't answer for as long as its network library does, which may be for
ever. An idle TCP connection with keepalive ends with an error instead (RFC 1122, 4.2.3.6). The
systems answer each other's probes themselves, however busy or stopped their processes are.
"""

import errno
import json
import socket
import sys
import uuid
from typing import TYPE_CHECKING

from dist_vgg.mpi.collectives import allgather_text

if TYPE_CHECKING:
    from mpi4py import MPI

IDLE, INTERVAL, PROBES = 3, 2, 5  # seconds before the first probe and between them, and how many
SILENCE = IDLE + INTERVAL * PROBES  # seconds without an answer, after which a host is lost
CONNECTING = 2  # seconds that a connection may take
NO_ANSWER = {errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN}


class Links:
    """Connections of the first rank of each host to that of the first host.

    Where none can be made, as between hosts that don't know each other's names, nothing is watched.
    """

    def __init__(self, comm: "MPI.Intracomm", host: "MPI.Intracomm") -> None:
        """`host` has the ranks of this host. Every rank must come here."""
        from mpi4py import MPI

        self._server: socket.socket | None = None
        self._links: dict[socket.socket, str] = {}  # and the host at the other end
        self._strangers: list[socket.socket] = []  # that haven't said who they are
        name, port = MPI.Get_processor_name(), 0
        hosts = allgather_text(comm, name if host.rank == 0 else "")
        several = len(list(filter(None, hosts))) > 1 and sys.platform == "linux"
        if several and comm.rank == 0:
            self._server = _listen()
            port = self._server.getsockname()[1] if self._server else 0
        first = allgather_text(comm, json.dumps([name, port, uuid.uuid4().hex]))[0]
        self._first, self._port, self._password = json.loads(first)
        if several and self._port and host.rank == 0 and comm.rank != 0:
            self._call(name)  # now: a host may be cut off in the first second

    def lost(self) -> list[str]:
        """The hosts that have not answered for `SILENCE` seconds; waits for nobody."""
        self._accept()
        lost = []
        for link, host in list(self._links.items()):
            ended = _ended(link)
            if ended is not None:
                link.close()
                del self._links[link]
                lost += [host] * (ended in NO_ANSWER)
        return lost

    def close(self) -> None:
        """Close all connections."""
        for link in (*self._links, *self._strangers, *filter(None, [self._server])):
            link.close()
        self._links, self._strangers, self._server = {}, [], None

    def _call(self, name: str) -> None:
        """Connect to the first host, if it can be reached, and say who we are."""
        try:
            link = socket.create_connection((self._first, self._port), CONNECTING)
            link.sendall(f"{self._password}{name}\n".encode())
        except OSError:
            return
        self._links[_watched(link)] = self._first

    def _accept(self) -> None:
        """Take connections of those who know the password."""
        while self._server:
            try:
                stranger, _ = self._server.accept()
            except OSError:  # nobody else calls
                break
            self._strangers.append(_watched(stranger))
        for stranger in list(self._strangers):
            try:
                words = stranger.recv(1 << 10)
            except BlockingIOError:
                continue
            except OSError:
                words = b""
            self._strangers.remove(stranger)
            text = words.decode(errors="replace")
            if text.startswith(self._password):
                self._links[stranger] = text[len(self._password) :].strip()
            else:
                stranger.close()


def _listen() -> socket.socket | None:
    """A socket that others can connect to; None where the system allows none."""
    try:
        server = socket.create_server(("", 0))
    except OSError:
        return None
    server.setblocking(False)
    return server


def _watched(link: socket.socket) -> socket.socket:
    """The same connection, whose end the system reports when the other host doesn't answer."""
    link.setblocking(False)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", IDLE),
        ("TCP_KEEPINTVL", INTERVAL),
        ("TCP_KEEPCNT", PROBES),
        ("TCP_USER_TIMEOUT", 1000 * SILENCE),
    ):
        link.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return link


def _ended(link: socket.socket) -> int | None:
    """How a connection has ended, 0 or an error's number; None while it lasts."""
    try:
        link.recv(1)
    except BlockingIOError:
        return None
    except OSError as error:
        return error.errno or 0
    return 0  # closed: that rank has ended, which mpirun sees
