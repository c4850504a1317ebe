"""The server as a user starts it: what it answers, what it refuses, and how it ends."""

import base64
import io
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import launcher
import numpy as np
import pytest
from drawings import seven, uneven
from PIL import Image
from predicting import NETWORK
from serving import Served, started

from dist_vgg.data.pictures import prepared
from dist_vgg.predict import main as predict

DIGIT = uneven(seven())


def encoded(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def damaged_tiff() -> bytes:
    """One of which libtiff writes to the error output."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    data = bytearray(encoded(noise, "TIFF", compression="tiff_adobe_deflate"))
    data[1000] ^= 0x55
    return bytes(data)


def pixels_of(fields: dict[str, Any], *shape: str) -> np.ndarray:
    data = np.frombuffer(base64.b64decode(fields["pixels"]), np.uint8)
    return data.reshape([fields[side] for side in shape])


def test_it_answers_as_predict_does(
    server: Served, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = {
        "digit.png": encoded(DIGIT),
        "digit.jpg": encoded(DIGIT, "JPEG"),
        "empty.png": encoded(np.full((40, 50), 90, np.uint8)),
    }
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in pictures]
    assert predict([str(weights), *paths, "--json", "--kernels", "numpy"]) == 0
    expected = json.loads(capsys.readouterr().out)
    for data, fields in zip(pictures.values(), expected, strict=True):
        del fields["image"]
        assert server.predict(data) == (200, fields)
    assert server.predict(pictures["digit.png"])[1]["prediction"] in range(10)
    nothing = {"prediction": None, "probabilities": None, "seen": None, "maps": []}
    assert server.predict(pictures["empty.png"], "?seen=1&maps=1") == (200, nothing)


def test_what_it_sees_and_its_feature_maps(server: Served) -> None:
    status, fields = server.predict(encoded(DIGIT), "?seen=1&maps=1")
    assert status == 200
    seen = pixels_of(fields["seen"], "size", "size", "channels")
    assert (seen == prepared(encoded(DIGIT), "digit", NETWORK["size"], 1)[1]).all()
    maps = [pixels_of(each, "height", "width", "channels") for each in fields["maps"]]
    layers = [each["layer"] for each in fields["maps"]]
    assert layers == ["conv1_2", "conv2_2", "conv3_3", "conv4_3", "conv5_3"]
    assert [each.shape[0] for each in maps] == [16, 8, 4, 2, 1]
    assert all(each.max() == 255 and each.min() == 0 for each in maps)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 415, "no picture; "),
        (b"seven", 415, "no image that Pillow can read; "),
        (encoded(DIGIT)[:200], 422, "can't read the picture: "),
        (damaged_tiff(), 422, "can't read the picture: "),
        (encoded(np.zeros((6000, 6000), np.uint8)), 422, "can't read the picture: 6000 x 6000 "),
        (bytes(17 << 20), 413, "larger than 16 MiB; "),
        ([bytes(1 << 20)] * 17, 413, "larger than 16 MiB; "),
        ([bytes(1 << 20)] * 64, 413, "larger than 16 MiB; "),
    ],
    ids=["empty", "text", "cut", "tiff", "bomb", "large", "chunks", "many chunks"],
)
def test_what_is_no_picture_gets_one_line(
    server: Served, body: Any, status: int, words: str
) -> None:
    found, answer = server.predict(body)
    assert (found, list(answer)) == (status, ["error"])
    assert answer["error"].startswith(words) and "\n" not in answer["error"]


def test_other_paths_and_methods(server: Served) -> None:
    for method, path, status in (("GET", "/predict", 405), ("POST", "/", 405), ("GET", "/x", 404)):
        found, headers, body = server.ask(method, path)
        assert (found, headers["Content-Type"]) == (status, "application/json")
        assert "/predict" in json.loads(body)["error"]
    assert "POST" in server.ask("GET", "/predict")[1]["Allow"]


def test_the_page_has_all_its_files(server: Served) -> None:
    status, headers, body = server.ask("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    names = [name for name in re.findall(r'(?:src|href)="([\w./-]+)"', body.decode())]
    assert any(name.endswith(".js") for name in names)
    for name in names:
        assert server.ask("GET", f"/{name}")[0] == 200


def test_every_answer_has_strict_headers(server: Served) -> None:
    for method, path in (("GET", "/"), ("GET", "/x"), ("POST", "/predict")):
        headers = server.ask(method, path)[1]
        policy = headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Server" not in headers


def test_another_sites_name_for_this_machine_is_refused(server: Served) -> None:
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "["):
        status, _, body = server.ask("GET", "/", Host=host)
        assert status == 421 and b"--host" in body
    for host in ("localhost", "127.0.0.1:80", "[::1]:8000"):
        assert server.ask("GET", "/", Host=host)[0] == 200


def test_many_at_a_time_get_their_own_answers(server: Served) -> None:
    bodies = [encoded(np.rot90(DIGIT, turns).copy()) for turns in range(4)] * 5 + [b"text"] * 4
    expected = [server.predict(body) for body in bodies]
    found: list[Any] = [None] * len(bodies)

    def ask(index: int) -> None:
        found[index] = server.predict(bodies[index])

    threads = [Thread(target=ask, args=(index,)) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    assert len({json.dumps(each) for each in found}) == 5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_at_once(weights: Path, number: signal.Signals) -> None:
    process, served = started(weights)
    with (
        socket.create_connection(served) as resting,
        socket.create_connection(served) as sending,
    ):
        start = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
        sending.sendall(start + bytes(10))
        resting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert resting.recv(100)
        began = time.monotonic()
        process.send_signal(number)
        status, output, errors = launcher.finish(process)
    assert time.monotonic() - began < 10
    assert (status, output) == (128 + number, "")
    told = ["dist_vgg.serve: interrupted"] if number == signal.SIGINT else []
    assert errors.splitlines()[1:] == told


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_an_address_that_can_not_be_had(taken: int) -> None:
    for options, words in (
        (("--port", taken), f"can't listen on 127.0.0.1 port {taken}: Address already in use; "),
        (("--host", "192.0.2.1"), "can't listen on 192.0.2.1 port 8000: Cannot assign requested "),
        (("--port", 65536), "--port 65536 must lie between 0 and 65535"),
    ):
        status, output, errors = launcher.run(1, "-m", "dist_vgg.serve", *options)
        assert (status, output) == (2, "")
        assert launcher.one_line(errors).startswith(f"dist_vgg.serve: error: {words}")
