"""What no client of a real server can bring about in a moment: slowness, crowds, our own faults."""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast

import pytest
from serving import in_a_loop

from dist_vgg.base.errors import UserError
from dist_vgg.serve import app
from dist_vgg.serve.__main__ import main
from dist_vgg.serve.answers import Answers


class SlowAnswers:
    """What answers when it is told to."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.asked = 0

    async def answer(self, picture: bytes, seen: bool, maps: bool) -> dict[str, Any]:
        self.asked += 1
        await self.ready.wait()
        return {"bytes": len(picture)}


async def ask(server: Any, parts: Sequence[bytes | None]) -> tuple[int, dict[bytes, bytes], Any]:
    """What a server answers to a picture that comes in parts; None is one that doesn't come."""
    coming, sent = list(parts), []

    async def receive() -> dict[str, Any]:
        part = coming.pop(0)
        if part is None:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": part, "more_body": bool(coming)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"",
             "headers": [(b"host", b"localhost")]}  # fmt: skip
    with suppress(ZeroDivisionError):  # which Starlette raises once more, for its caller to know
        await server(scope, receive, send)
    start, *bodies = sent
    content = b"".join(each.get("body", b"") for each in bodies)
    return start["status"], dict(start["headers"]), json.loads(content)


def make(answers: object) -> Any:
    return app.make_app(cast(Answers, answers), {})


def test_a_picture_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "SECONDS", 0.05)
    status, headers, body = in_a_loop(ask(make(SlowAnswers()), [b"half", None]))
    assert (status, body) == (408, {"error": "no whole picture within 0.05 s"})
    assert headers[b"connection"] == b"close"


@pytest.mark.parametrize(("name", "value"), [("REQUESTS", 2), ("HELD", 25)])
def test_more_than_it_can_hold(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, name, value)

    async def crowd() -> None:
        answers = SlowAnswers()
        server = make(answers)
        waiting = [asyncio.create_task(ask(server, [b"0123456789"])) for _ in range(2)]
        while answers.asked < 2:
            await asyncio.sleep(0)
        status, headers, body = await ask(server, [b"01234", b"56789"])
        assert (status, headers[b"retry-after"]) == (503, b"1")
        assert body == {"error": "busy; try again in a second"}
        answers.ready.set()
        for each in waiting:
            assert (await each)[::2] == (200, {"bytes": 10})
        for _ in range(3):  # what has been answered is held no longer
            assert (await ask(server, [b"01234", b"56789"]))[0] == 200

    in_a_loop(crowd())


def test_a_fault_of_ours_is_told_on_stderr_and_not_to_the_client(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Broken:
        async def answer(self, *arguments: object) -> None:
            raise ZeroDivisionError("a secret")

    status, headers, body = in_a_loop(ask(make(Broken()), [b"picture"]))
    assert (status, body) == (500, {"error": "a fault of the program; its error output has more"})
    assert b"content-security-policy" in headers
    assert "ZeroDivisionError: a secret" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["starlette", "uvicorn"])
def test_a_missing_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    expected = f"{package} is missing; install it with: pip install 'dist_vgg\\[serve\\]'"
    with pytest.raises(UserError, match=f"^{expected}$"):
        main([])
