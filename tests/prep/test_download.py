"""MNIST from the cache or a mirror, and what stands in where it cannot be had."""

import errno
import functools
import gzip
import http.server
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from idx import ArrayDict, write_files

from data_prep import download, idx_set, mnist
from data_prep.idx import idx_bytes
from data_prep.sources import load
from dist_vgg.base.cache import cache_folder
from dist_vgg.base.errors import UserError

TRAIN_IMAGES, _ = mnist.FILES["train"]
TEST_IMAGES, TEST_LABELS = mnist.FILES["test"]
GOOD = idx_bytes(np.arange(24, dtype=np.uint8).reshape(2, 3, 4))


class Mirror(http.server.SimpleHTTPRequestHandler):
    """Serves a folder and remembers what it was asked for."""

    asked: list[str]
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        self.asked.append(self.path.rpartition("/")[2])
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class CuttingMirror(Mirror):
    """Announces the whole file and closes the connection in the middle of it."""

    def copyfile(self, source, outputfile) -> None:  # type: ignore[no-untyped-def]
        outputfile.write(source.read(20))


class SilentMirror(Mirror):
    """Accepts a request and doesn't answer in time."""

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.server.gate.wait(5)  # type: ignore[attr-defined]


@contextmanager
def serving(folder: Path, kind: type[Mirror] = Mirror) -> Iterator[tuple[str, list[str]]]:
    """Yield a mirror's URL and the list of what it has been asked for."""
    handler = type("Handler", (kind,), {"asked": []})
    bound = functools.partial(handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), bound) as server:
        server.gate = threading.Event()  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/", handler.asked  # type: ignore[attr-defined]
        server.gate.set()  # type: ignore[attr-defined]
        server.shutdown()


def fetch(cache: Path, urls: list[str], say: Callable[[str], None]) -> ArrayDict:
    """MNIST's files, from the cache or these mirrors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIST_VGG_MIRRORS", " ".join(urls))
        return download.fetch(cache, mnist.MNIST, say)


@pytest.fixture
def closed() -> str:
    """URL of a mirror that nobody runs."""
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{place.getsockname()[1]}/"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def gz(names: list[str]) -> list[str]:
    return [f"{name}.gz" for name in names]


def test_download_and_then_the_cache(tmp_path: Path, tiny: ArrayDict) -> None:
    write_files(tmp_path / "web", tiny)
    cache = tmp_path / "deep" / "cache"
    with serving(tmp_path / "web") as (url, asked):
        for _ in range(2):
            arrays = fetch(cache, [url], print)
            for name, array in tiny.items():
                np.testing.assert_array_equal(arrays[name], array)
    assert asked == gz(mnist.NAMES)  # each once: the second time nothing was downloaded
    assert sorted(path.name for path in cache.iterdir()) == sorted(gz(mnist.NAMES))
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in cache.iterdir())


def test_a_run_again_downloads_only_what_is_missing(tmp_path: Path, tiny: ArrayDict) -> None:
    web = write_files(tmp_path / "web", tiny)
    last = web / f"{TEST_LABELS}.gz"
    held = last.rename(tmp_path / "held")
    lines: list[str] = []
    with serving(web) as (url, asked):
        with pytest.raises(download.Unavailable, match=f"no mirror gave {TEST_LABELS};"):
            fetch(tmp_path / "cache", [url], lines.append)
        assert lines[-1] == f"{url} has no {last.name}: 404 Client Error: File not found"
        held.rename(last)
        asked.clear()
        fetch(tmp_path / "cache", [url], print)
    assert asked == [last.name]


def test_a_closed_mirror_is_asked_once(tmp_path: Path, tiny: ArrayDict, closed: str) -> None:
    write_files(tmp_path / "web", tiny)
    lines: list[str] = []
    with serving(tmp_path / "web") as (url, asked):
        fetch(tmp_path / "cache", [closed, url], lines.append)
    assert asked == gz(mnist.NAMES)
    assert [line for line in lines if line.startswith(closed)] == [
        f"{closed} can't be reached; not tried again"
    ]
    assert sum(closed in line for line in lines) == 2  # trying it, and having failed


def test_a_silent_mirror_is_asked_once(
    tmp_path: Path, tiny: ArrayDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "READ_SECONDS", 0.2)
    lines: list[str] = []
    with (
        serving(write_files(tmp_path / "web", tiny)) as (url, _),
        serving(tmp_path, SilentMirror) as (silent, asked),
    ):
        fetch(tmp_path / "cache", [silent, url], lines.append)
    assert len(asked) == 1
    assert f"{silent} does not answer; not tried again" in lines


def bad_mirror(tmp_path: Path, tiny: ArrayDict, what: str) -> Path:
    """A folder whose first file is bad."""
    other = dict(tiny)
    if what == "other content":
        other[TRAIN_IMAGES] = tiny[TRAIN_IMAGES] ^ 1
    folder = write_files(tmp_path / "bad", other)
    first = folder / f"{TRAIN_IMAGES}.gz"
    if what == "cut file":
        first.write_bytes(first.read_bytes()[:-20])
    if what == "login page":
        first.write_bytes(b"<html>log in</html>")
    return folder


@pytest.mark.parametrize("what", ["other content", "cut file", "login page", "cut connection"])
def test_a_bad_file_is_not_kept_and_the_next_mirror_is_asked(
    tmp_path: Path, tiny: ArrayDict, what: str
) -> None:
    web = write_files(tmp_path / "web", tiny)
    kind = CuttingMirror if what == "cut connection" else Mirror
    lines: list[str] = []
    with (
        serving(bad_mirror(tmp_path, tiny, what), kind) as (bad, asked),
        serving(web) as (url, good_asked),
    ):
        with pytest.raises(download.Unavailable):
            fetch(tmp_path / "cache", [bad], lines.append)
        assert not list((tmp_path / "cache").iterdir())
        assert len(lines) == 2  # trying it, and what was wrong: one line
        assert lines[1].startswith(f"{bad}{TRAIN_IMAGES}.gz ")
        assert "\n" not in lines[1]
        arrays = fetch(tmp_path / "cache", [bad, url], print)
    np.testing.assert_array_equal(arrays[TRAIN_IMAGES], tiny[TRAIN_IMAGES])
    assert f"{TRAIN_IMAGES}.gz" in good_asked
    assert len(asked) >= 2


@pytest.mark.parametrize("what", ["cut", "other"])
def test_a_bad_file_in_the_cache_is_downloaded_again(
    tmp_path: Path, tiny: ArrayDict, what: str
) -> None:
    web = write_files(tmp_path / "web", tiny)
    cache = write_files(tmp_path / "cache", tiny)
    bad = cache / f"{TEST_IMAGES}.gz"
    bad.write_bytes(bad.read_bytes()[:-5] if what == "cut" else gzip.compress(GOOD))
    lines: list[str] = []
    with serving(web) as (url, asked):
        fetch(cache, [url], lines.append)
    assert asked == [bad.name]
    assert bad.read_bytes() == (web / bad.name).read_bytes()
    assert str(bad) in lines[0]
    assert lines[0].endswith("; to be downloaded again")


NOT_KEPT = "; downloads are not kept; DIST_VGG_CACHE can name another folder"


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place for temporary files, which is to be empty again."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize("source", ["mnist", "auto"])
@pytest.mark.parametrize("what", ["no folder", "no home"])
def test_without_a_cache_mnist_comes_all_the_same(
    tmp_path: Path,
    tiny: ArrayDict,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    what: str,
) -> None:
    # Root may write to any folder, but not to one below a file.
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    monkeypatch.setenv("DIST_VGG_CACHE", str(cache) if what == "no folder" else "")
    monkeypatch.setattr("platformdirs.user_cache_dir", homeless)
    lines: list[str] = []
    with serving(write_files(tmp_path / "web", tiny)) as (url, asked):
        monkeypatch.setenv("DIST_VGG_MIRRORS", url)
        raw = load(source, None, lines.append)
    assert raw.source == "mnist"
    np.testing.assert_array_equal(raw.pictures["test"].array, tiny[TEST_IMAGES])
    assert asked == gz(mnist.NAMES)
    why = {
        "no folder": f"can't use the cache {cache}: Not a directory",
        "no home": "can't find a home folder for the cache",
    }
    assert lines == [f"{why[what]}{NOT_KEPT}", *(f"downloading {url}{name}" for name in asked)]
    assert not list(temporary.iterdir())


def homeless(project: str) -> str:
    """What platformdirs does for a user without HOME whom the system doesn't know."""
    raise RuntimeError("could not determine the home directory for '~/.cache'")


def test_a_home_that_nobody_knows_is_no_folder_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIST_VGG_CACHE", raising=False)
    monkeypatch.setattr(
        "platformdirs.user_cache_dir", lambda _: Path("~/.cache/dist_vgg")
    )  # an older platformdirs
    assert cache_folder() is None


@pytest.mark.parametrize(
    "what", ["a damaged file", "a full disk", "a forbidden folder", "a folder to read"]
)
def test_a_cache_that_fails_later(
    tmp_path: Path, tiny: ArrayDict, temporary: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    cache = write_files(tmp_path / "cache", tiny)
    missing = cache / f"{TEST_IMAGES}.gz"
    missing.write_bytes(b"damaged")
    if what != "a damaged file":
        missing.unlink()
    before = {path: path.read_bytes() for path in cache.iterdir()}

    def failing(real: Callable, number: int) -> Callable:
        def fail(*words: object, **options: object) -> object:
            if any(str(cache) in str(word) for word in [*words, *options.values()]):
                raise OSError(number, os.strerror(number), str(cache))
            return real(*words, **options)

        return fail

    if what == "a damaged file":
        monkeypatch.setattr(Path, "unlink", failing(Path.unlink, errno.EROFS))
    elif what == "a full disk":
        monkeypatch.setattr("shutil.move", failing(shutil.move, errno.ENOSPC))
    elif what == "a folder to read":  # pooch would tell it in three sentences
        monkeypatch.setattr(os, "open", failing(os.open, errno.EACCES))
    else:  # so says is_file() of what is in it, up to Python 3.13
        monkeypatch.setattr(idx_set, "find_file", failing(idx_set.find_file, errno.EACCES))
    lines: list[str] = []
    with serving(write_files(tmp_path / "web", tiny)) as (url, asked):
        arrays = fetch(cache, [url], lines.append)
    for name, array in tiny.items():
        np.testing.assert_array_equal(arrays[name], array)
    (line,) = [line for line in lines if line.endswith(NOT_KEPT)]
    reasons = {
        "a damaged file": "Read-only file system",
        "a full disk": "No space left on device",
        "a forbidden folder": "Permission denied",
        "a folder to read": "Permission denied",
    }
    assert line == f"can't use the cache {cache}: {reasons[what]}{NOT_KEPT}"
    # What had been read is not asked for.
    wanted = {
        "a damaged file": [TEST_IMAGES, TEST_LABELS],
        "a full disk": [TEST_IMAGES] * 2,
        "a forbidden folder": mnist.NAMES,
        "a folder to read": [TEST_IMAGES],
    }
    assert asked == gz(wanted[what])
    assert {path: path.read_bytes() for path in cache.iterdir()} == before
    assert not list(temporary.iterdir())


def test_a_cache_that_can_only_be_read_is_enough(
    tmp_path: Path, tiny: ArrayDict, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = write_files(tmp_path / "cache", tiny)
    monkeypatch.setattr(download, "TemporaryFile", lambda **_: pytest.fail("written to"))
    lines: list[str] = []
    assert fetch(cache, [], lines.append).keys() == tiny.keys()
    assert not lines


def test_cache_and_mirrors_are_the_environments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("DIST_VGG_CACHE", raising=False)
    monkeypatch.delenv("DIST_VGG_MIRRORS", raising=False)
    assert download.mirrors(mnist.MNIST) == list(mnist.MIRRORS)
    folder = cache_folder()
    assert folder is not None
    assert folder.name == "dist_vgg"
    monkeypatch.setenv("DIST_VGG_CACHE", str(tmp_path))
    monkeypatch.setenv("DIST_VGG_MIRRORS", "http://a/x  http://b/")
    assert download.mirrors(mnist.MNIST) == ["http://a/x/", "http://b/"]
    assert cache_folder() == tmp_path


# The stand-in


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, closed: str) -> None:
    monkeypatch.setenv("DIST_VGG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DIST_VGG_MIRRORS", closed)


@pytest.mark.usefixtures("offline")
def test_auto_falls_back_on_digits_loudly() -> None:
    pytest.importorskip("sklearn")
    lines: list[str] = []
    assert load("auto", None, lines.append).source == "digits"
    loud = [line for line in lines if line.startswith("***")]
    assert len(loud) == 5
    assert "THIS IS NOT MNIST" in loud[1]


@pytest.mark.usefixtures("offline")
def test_auto_falls_back_without_a_cache_too(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "cache").write_text("a file")
    lines: list[str] = []
    assert load("auto", None, lines.append).source == "digits"
    assert lines[0] == f"can't use the cache {tmp_path / 'cache'}: File exists{NOT_KEPT}"
    assert any(line.startswith("*** THIS IS NOT MNIST: no mirror gave") for line in lines)
    # Not even a temporary folder.
    temporary.rmdir()
    lines.clear()
    assert load("auto", None, lines.append).source == "digits"
    assert "*** THIS IS NOT MNIST: can't use a temporary folder either: No such file" in lines[2]
    with pytest.raises(UserError, match="set DIST_VGG_CACHE or TMPDIR to a folder that can be"):
        load("mnist", None, print)


@pytest.mark.usefixtures("offline")
def test_mnist_does_not_fall_back() -> None:
    with pytest.raises(UserError, match=r"no mirror gave .*--raw DIR, or set DIST_VGG_MIRRORS"):
        load("mnist", None, print)


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("source", ["auto", "digits"])
def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"pip install 'dist_vgg\[digits\]'"):
        load(source, None, print)
