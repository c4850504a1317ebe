"""The files of a known set, from the cache or from the first mirror that has them whole."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import numpy as np

from data_prep.known import KnownSet
from data_prep.raw import Arrays
from dist_vgg.base.cache import cache_folder
from dist_vgg.base.command_line import plural
from dist_vgg.base.errors import UserError

CONNECT_SECONDS, READ_SECONDS = 3, 30

Say = Callable[[str], None]


class Unavailable(UserError):
    """A set is neither in the cache nor on any mirror."""


def cache(of: KnownSet) -> Path | None:
    """The folder in which a set's files are kept; None where there is no place for one."""
    folder = cache_folder()
    # MNIST has the names of its files to itself, as ever.
    return folder if folder is None or of.source == "mnist" else folder / of.source


def mirrors(of: KnownSet) -> list[str]:
    """Where to download from, in order: the URLs in DIST_VGG_MIRRORS, else the set's own."""
    urls = os.environ.get("DIST_VGG_MIRRORS", "").split() or of.mirrors
    return [url.rstrip("/") + "/" for url in urls]


def fetch(cache: Path | None, of: KnownSet, say: Say) -> Arrays:
    """A set's files, from the cache; those that are missing or damaged are downloaded.

    Whole files stay in the cache. Where it cannot be read or written, they pass through a
    temporary folder instead. Raises Unavailable where no mirror has a file.
    """
    arrays: Arrays = {}
    alive = mirrors(of)  # a mirror that can't be reached is not asked for the other files
    if cache:
        try:
            _read_cached(arrays, of, cache, say)
            _download_missing(arrays, of, cache, alive, say)
            return arrays
        except OSError as error:
            why = f"can't use the cache {cache}: {error.strerror or error}"
    else:
        why = "can't find a home folder for the cache"
    say(f"{why}; downloads are not kept; DIST_VGG_CACHE can name another folder")
    try:
        with TemporaryDirectory(prefix="dist_vgg-", ignore_cleanup_errors=True) as folder:
            _download_missing(arrays, of, Path(folder), alive, say)
    except OSError as error:
        raise Unavailable(
            f"can't use a temporary folder either: {error.strerror or error}; set DIST_VGG_CACHE "
            "or TMPDIR to a folder that can be written"
        ) from error
    return arrays


def _read_cached(arrays: Arrays, of: KnownSet, cache: Path, say: Say) -> None:
    """Add the files that the cache holds; remove damaged ones."""
    for name in of.names:
        while name not in arrays and (path := of.find_file(cache, name)):
            try:
                arrays[name] = of.read_verified(path, name, str(path))
            except UserError as error:
                say(f"{error}; to be downloaded again")
                path.unlink()


def _download_missing(
    arrays: Arrays, of: KnownSet, folder: Path, alive: list[str], say: Say
) -> None:
    """Download the files that are still missing to a folder, and add them."""
    missing = [name for name in of.names if name not in arrays]
    if missing:
        # Find out that the folder cannot be written before a download is announced.
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    for name in missing:
        arrays[name] = _download(folder, of, name, alive, say)


def _download(folder: Path, of: KnownSet, name: str, alive: list[str], say: Say) -> np.ndarray:
    """Download a file from the first mirror that has it whole; drop silent ones from `alive`."""
    import pooch
    import requests

    http = pooch.HTTPDownloader(
        progressbar=sys.stderr.isatty(),
        chunk_size=1 << 16,
        timeout=(CONNECT_SECONDS, READ_SECONDS),
    )
    pooch.get_logger().setLevel("WARNING")

    def verified(url: str, part: str, _: object) -> None:
        # pooch gives the file its name only after this: a bad one never gets into the cache.
        http(url, part, None)
        of.read_verified(Path(part), name, url)
        Path(part).chmod(0o644)  # a cache may be shared, and temporary files are private

    file = of.file_name(name)
    for mirror in list(alive):
        url = f"{mirror}{file}"
        say(f"downloading {url}")
        try:
            path = pooch.retrieve(url, None, file, folder, downloader=verified)
            return of.read_verified(Path(path), name, path)
        except UserError as error:
            say(f"{error}; not used")
        except requests.HTTPError as error:
            say(f"{mirror} has no {file}: {str(error).split(' for url')[0]}")
        except (requests.ConnectionError, requests.Timeout) as error:
            alive.remove(mirror)
            slow = isinstance(error, requests.Timeout)
            said = "does not answer" if slow else "can't be reached"
            say(f"{mirror} {said}; not tried again")
        except requests.RequestException as error:
            say(f"{url} arrived damaged: {str(error).splitlines()[0]}")
    raise Unavailable(
        f"no mirror gave {name}; copy {of.title}'s {plural(len(of.names), 'file')} to a folder and "
        "use --raw DIR, "
        "or set DIST_VGG_MIRRORS"
    )
