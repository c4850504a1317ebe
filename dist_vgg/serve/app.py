"""What the server says to each request: the page and its files, answers to pictures, and refusals.

POST /predict takes a picture's bytes and answers in JSON; docs/guides/serve.md has the fields.
Every refusal is {"error": "one line"}.
"""

import asyncio
import json
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dist_vgg.base.command_line import tell
from dist_vgg.data.pictures import BadPicture, NoPicture
from dist_vgg.formats.html import SERVED_POLICY
from dist_vgg.serve.answers import Answers

MOST_BYTES = 16 << 20  # of a picture
DRAINED = 4 * MOST_BYTES  # so much of what is larger is read, so that its sender hears the answer
REQUESTS, HELD = 128, 256 << 20  # that are answered at a time, and the bytes of their pictures
SECONDS = 30.0  # in which a picture has to come
HEADERS = {
    "Content-Security-Policy": f"{SERVED_POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CLOSE = {"Connection": "close"}  # after an answer to what was not read to its end
WHAT_TO_SEND = "send a PNG or JPEG file as the body"
Files = Mapping[str, tuple[bytes, str]]  # content and media type, by path


def make_app(answers: Answers, files: Files, hosts: Collection[str] = ()) -> ASGIApp:
    """The server as an ASGI application.

    `files` are those of the page, which is index.html. With `hosts`, requests for others are
    refused: a foreign site's page must not reach a server of this machine by a name of its own.
    """
    routes = [
        Route("/predict", predict_by(answers), methods=["POST"]),
        *(
            Route("/" + path.removesuffix("index.html"), sender(content, kind))
            for path, (content, kind) in files.items()
        ),
    ]
    handlers = {HTTPException: refusal, Exception: failure}
    return with_headers(Starlette(routes=routes, exception_handlers=handlers), hosts)


def sender(content: bytes, kind: str) -> Callable[[Request], Response]:
    """What answers with a file of the page."""
    return lambda request: Response(content, media_type=kind)


def predict_by(answers: Answers) -> Callable[[Request], object]:
    """What answers to a picture."""
    load = Load()

    async def predict(request: Request) -> Response:
        wanted = request.query_params
        with load.request() as take:
            picture = await received(request, take)
            try:
                fields = await answers.answer(
                    picture, wanted.get("seen") == "1", wanted.get("maps") == "1"
                )
            except NoPicture as error:
                raise HTTPException(415, f"{error.why}; {WHAT_TO_SEND}") from error
            except BadPicture as error:
                raise HTTPException(422, f"can't read the picture: {error.why}") from error
            return as_json(fields)

    return predict


class Load:
    """The requests in progress and the bytes that they hold, so that memory has a limit."""

    def __init__(self) -> None:
        self._requests = self._held = 0

    @contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """Count a request while it lasts; yields what is told of each part of its body.

        Raises HTTPException where the server has enough to do.
        """
        busy = HTTPException(503, "busy; try again in a second", {"Retry-After": "1", **CLOSE})
        if self._requests >= REQUESTS:
            raise busy
        self._requests += 1
        own = 0

        def take(count: int) -> None:
            nonlocal own
            if self._held + count > HELD:
                raise busy
            own += count
            self._held += count

        try:
            yield take
        finally:
            self._requests -= 1
            self._held -= own


async def received(request: Request, take: Callable[[int], None]) -> bytes:
    """The body of a request; HTTPException where it is none, is too large or too slow."""
    try:
        body = await asyncio.wait_for(_read(request, take), SECONDS)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"no whole picture within {SECONDS:g} s", CLOSE) from None
    except ClientDisconnect:
        raise HTTPException(400, "the sender has gone") from None
    if not body:
        raise HTTPException(415, f"no picture; {WHAT_TO_SEND}")
    return body


async def _read(request: Request, take: Callable[[int], None]) -> bytes:
    too_large = HTTPException(413, f"larger than {MOST_BYTES >> 20} MiB; make it smaller", CLOSE)
    claimed = request.headers.get("content-length", "")
    if claimed.isdecimal() and int(claimed) > DRAINED:
        raise too_large
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > DRAINED:
            break
        if size <= MOST_BYTES:
            take(len(part))
            parts.append(part)
    if size > MOST_BYTES:
        raise too_large
    return b"".join(parts)


def as_json(
    fields: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer in JSON."""
    return Response(json.dumps(fields), status, headers, "application/json")


def refusal(request: Request, error: HTTPException) -> Response:
    """The answer to a request that the server can't serve."""
    words = error.detail
    if error.status_code == 404:
        words = "there is nothing here; the page is at /, and pictures go to /predict"
    elif error.status_code == 405:
        words = f"not by {request.method}; pictures go to /predict by POST"
    return as_json({"error": words}, error.status_code, error.headers)


def failure(request: Request, error: Exception) -> Response:
    """The answer where the program is at fault, which stderr gets to know."""
    tell("".join(traceback.format_exception(error)).rstrip())
    return as_json({"error": "a fault of the program; its error output has more"}, 500)


def with_headers(app: ASGIApp, hosts: Collection[str]) -> ASGIApp:
    """The application with HEADERS on every answer; where there are `hosts`, for no others."""
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_more(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *headers]
            await send(message)

        answering = app if not hosts or host_of(scope) in hosts else misdirected
        await answering(scope, receive, send_more)

    return wrapped


def host_of(scope: Scope) -> str:
    """The name by which a request calls the server, "" where it has none."""
    values = [value for name, value in scope["headers"] if name == b"host"]
    try:
        return urlsplit("//" + values[0].decode("latin-1")).hostname or ""
    except (IndexError, ValueError):
        return ""


async def misdirected(scope: Scope, receive: Receive, send: Send) -> None:
    """Refuse a request that was meant for another host."""
    words = "this server is called localhost; to serve others start it with --host"
    await as_json({"error": words}, 421, CLOSE)(scope, receive, send)
