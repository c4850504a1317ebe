"""What the tests of serve share: a server in its own process, and requests to it."""

import asyncio
import http.client
import json
import re
import subprocess
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import launcher


def in_a_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine, in a thread: Playwright keeps a loop in the main one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Served(NamedTuple):
    """Where a server listens, and an answer of it: status, headers and body."""

    host: str
    port: int

    def ask(
        self, method: str, path: str, body: bytes | Iterable[bytes] | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    def predict(self, body: bytes | Iterable[bytes], query: str = "") -> tuple[int, Any]:
        status, headers, answer = self.ask("POST", f"/predict{query}", body)
        assert headers["Content-Type"] == "application/json"
        assert headers["Cache-Control"] == "no-store"
        return status, json.loads(answer)


def started(
    weights: Path, *options: object, kernels: str = "numpy"
) -> tuple["subprocess.Popen[str]", Served]:
    """A server's process, which listens, and where it does."""
    options = (weights, "--port", 0, "--kernels", kernels, *options)
    process = launcher.start(1, "-m", "dist_vgg.serve", *options)
    assert process.stdout
    line = process.stdout.readline()
    found = re.fullmatch(r"http://(127\.0\.0\.1):(\d+)/   \(Ctrl-C ends it\)\n", line)
    if not found:
        raise AssertionError(f"{line!r}, {launcher.finish(process)}")
    return process, Served(found[1], int(found[2]))
