"""The server's life: it listens, serves until a signal comes, and then ends at once."""

import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from dist_vgg.base.errors import UserError
from dist_vgg.data.pictures import silent

CONNECTIONS = 512  # open at a time; a few more than are answered, for those that rest


class Server(uvicorn.Server):
    """uvicorn's server, which by itself waits for requests and raises its signals once more."""

    ended_by = 0  # the signal's number

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        """Leave, whatever connections are open."""
        self.ended_by = self.ended_by or number
        self.should_exit = self.force_exit = True


def serve(app: ASGIApp, listener: socket.socket) -> int:
    """Serve the requests that come to a socket; returns the number of the signal that ends it."""
    config = uvicorn.Config(
        app, http="h11", ws="none", loop="asyncio", lifespan="off", log_config=None,
        log_level="critical", access_log=False, server_header=False, proxy_headers=False,
        limit_concurrency=CONNECTIONS,
    )  # fmt: skip
    server = Server(config)
    with quiet_decoders():
        server.run([listener])
    return server.ended_by


@contextlib.contextmanager
def quiet_decoders() -> Iterator[None]:
    """Keep decoders from printing in any thread; what we write to sys.stderr gets through."""
    with silent() as errors, contextlib.redirect_stderr(errors):
        yield


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; UserError where the address can't be had."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        return socket.create_server(address[:2], family=family)
    except socket.gaierror as error:
        raise UserError(f"--host {host}: {error.strerror}") from error
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(
            f"can't listen on {host} port {port}: {reason}; choose another with --host and --port "
            "(0 takes a free port)"
        ) from error


def url_of(listener: socket.socket) -> str:
    """Where a browser finds the server."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = socket.gethostname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def local_names(listener: socket.socket) -> tuple[str, ...]:
    """By which names a server of this machine alone is called; none where it is for others too."""
    host = listener.getsockname()[0]
    alone = ipaddress.ip_address(host).is_loopback
    return ("localhost", "127.0.0.1", "::1", host) if alone else ()
