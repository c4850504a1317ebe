"""MNIST is four IDX files: found or downloaded here, verified, and enlarged for VGG16.

The data set is by Y. LeCun, C. Cortes and C. Burges, "The MNIST database of handwritten
digits". Nothing in this file knows how the images will be stored or shared out.
"""

import hashlib
import math
import os
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile

import numpy as np
from PIL import Image
from tqdm import tqdm

from dist_vgg.base.errors import UserError

# split -> its images and its labels
FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
NAMES = [name for pair in FILES.values() for name in pair]

# Of the uncompressed files: mirrors compress the same content in different ways.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://raw.githubusercontent.com/fgnt/mnist/master/",
)
CONNECT_SECONDS, READ_SECONDS = 3, 30
MAX_BYTES = 64 << 20  # the largest of the four files has 47 million bytes
CLASSES = 10
ZOOM = "bicubic"

Arrays = dict[str, np.ndarray]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Raw:
    """A data set as it came: for each split images (n, h, w), labels (n,), ids (n,)."""

    source: str  # "mnist", or "digits" for scikit-learn's stand-in
    images: Arrays  # uint8
    labels: Arrays  # uint8, 0..9
    ids: Arrays  # int64; index in the file that the split came from

    def digest(self) -> str:
        """SHA-256 over the four arrays."""
        parts = [
            idx_sha256(array[split]) for array in (self.images, self.labels) for split in FILES
        ]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def load(source: str, folder: Path | None, say: Say) -> Raw:
    """Give the data set that was asked for: "mnist", "digits", or "auto" for the first to be had.

    `folder` holds the IDX files; without one they come from the cache or a mirror.
    """
    if source == "digits":
        if folder:
            raise UserError("--raw has MNIST's files; leave it out, or leave out --source digits")
        return digits()
    if folder:
        return _mnist(read_folder(folder))
    try:
        return _mnist(fetch(cache_folder(), mirrors(), say))
    except Unavailable as error:
        if source == "mnist":
            raise
        raw = digits()
        stars = "*" * 88
        say(stars)
        say(f"*** THIS IS NOT MNIST: {error}")
        say("*** scikit-learn's handwritten digits stand in for it: "
            f"{sum(map(len, raw.labels.values())):,} images of 8x8 pixels.")  # fmt: skip
        say("*** They are much easier than MNIST: good for trying the program, not for results.")
        say(stars)
        return raw


def read_idx(path: Path, ndim: int, called: str | None = None) -> np.ndarray:
    """Read an IDX file of bytes with `ndim` dimensions, gzipped or not.

    Big-endian: 0, 0, 8 for unsigned bytes, ndim; then a uint32 for each dimension; then the
    data. Raises a UserError that opens with the file's name, or what it is `called`.
    """
    called = called or str(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"{called} is not of MNIST: it has more than {MAX_BYTES:,} bytes")
        stored = path.read_bytes()
    except OSError as error:
        raise UserError(f"can't read {called}: {error.strerror or error}") from error
    unzip = _Plain() if stored[:2] != b"\x1f\x8b" else zlib.decompressobj(wbits=31)
    try:
        header = unzip.decompress(stored, 4 + 4 * ndim)
        if len(header) < 4 + 4 * ndim and not unzip.eof:
            raise UserError(f"{called} is a damaged or cut-short gzip file")
        if header[:4] != bytes((0, 0, 8, ndim)):
            raise UserError(
                f"{called} is not an IDX file of {ndim}-dimensional bytes: "
                f"it begins with {header[:4].hex() or 'nothing'} instead of 0000080{ndim}"
            )
        if len(header) < 4 + 4 * ndim:
            raise UserError(f"{called} is cut short: it ends within its header")
        shape = struct.unpack(f">{ndim}I", header[4:])
        size = math.prod(shape)
        if max(size, *shape) > MAX_BYTES:  # a side may be huge beside one of 0
            raise UserError(
                f"{called} is not of MNIST: its header announces {' x '.join(map(str, shape))} "
                f"bytes, more than {MAX_BYTES:,}"
            )
        # One byte more than announced tells a longer file, however far a gzip would swell.
        data = unzip.decompress(unzip.unconsumed_tail, size + 1)
    except zlib.error as error:
        raise UserError(f"{called} is a damaged or cut-short gzip file") from error
    # One gzip, as MNIST's are, and zeros behind it at most: millions of empty ones take minutes.
    if len(data) <= size and (not unzip.eof or unzip.unused_data.strip(b"\0")):
        raise UserError(f"{called} is a damaged or cut-short gzip file")
    if len(data) != size:
        found = f"more than {size:,}" if len(data) > size else f"{len(data):,}"
        raise UserError(
            f"{called} has another length than its header says: "
            f"{found} bytes of data instead of {size:,}"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


class _Plain:
    """What zlib's decompressobj is, for bytes that are not compressed."""

    unconsumed_tail = unused_data = b""
    eof = True

    def decompress(self, data: bytes, most: int) -> bytes:
        """The first bytes, at most so many; the others are left as `unconsumed_tail`."""
        self.unconsumed_tail = data[most:]
        return data[:most]


def idx_bytes(array: np.ndarray) -> bytes:
    """Give the IDX file that holds an array of bytes."""
    head = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return head + np.ascontiguousarray(array, np.uint8).tobytes()


def idx_sha256(array: np.ndarray) -> str:
    """SHA-256 of the uncompressed IDX file that holds an array."""
    return hashlib.sha256(idx_bytes(array)).hexdigest()


def find_file(folder: Path, name: str) -> Path | None:
    """Find an IDX file, gzipped or not, also under the name that some archives give it."""
    for stem in (name, name.replace("-idx", ".idx")):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None


def read_folder(folder: Path) -> Arrays:
    """Read and verify the four files in a folder that the user has named."""
    if not folder.is_dir():
        raise UserError(f"--raw {folder} is not a folder; leave out --raw to download MNIST")
    paths = {name: path for name in NAMES if (path := find_file(folder, name))}
    missing = [f"{name}[.gz]" for name in NAMES if name not in paths]
    if missing:
        raise UserError(
            f"--raw {folder} lacks {', '.join(missing)}; copy what is missing there, "
            "or leave out --raw to download it"
        )
    try:
        arrays = {name: read_idx(path, _ndim(name)) for name, path in paths.items()}
        for images, labels in FILES.values():
            _check_pair(arrays[images], paths[images], arrays[labels], paths[labels])
        for name, path in paths.items():
            _check_content(name, arrays[name], str(path))
    except UserError as error:
        raise UserError(f"{error}; copy it anew, or leave out --raw to download it") from error
    return arrays


class Unavailable(UserError):
    """MNIST is neither in the cache nor to be had from any mirror."""


def cache_folder() -> Path | None:
    """Where downloads are kept: DIST_VGG_CACHE, else the place that pooch gives to programs.

    None where neither is known, as for a user without a home folder.
    """
    import pooch

    if named := os.environ.get("DIST_VGG_CACHE"):
        return Path(named)
    try:
        folder = Path(pooch.os_cache("dist_vgg"))
    except RuntimeError:
        return None
    return folder if folder.is_absolute() else None  # "~/.cache" where nobody knows what ~ is


def mirrors() -> list[str]:
    """Where to download from, in order: DIST_VGG_MIRRORS (URLs between spaces), else MIRRORS."""
    urls = os.environ.get("DIST_VGG_MIRRORS", "").split() or MIRRORS
    return [url.rstrip("/") + "/" for url in urls]


def fetch(cache: Path | None, urls: list[str], say: Say) -> Arrays:
    """Give the four files from the cache; download those that are not there or damaged.

    Files that came whole stay in the cache. Where it can't be read or written, they go through a
    temporary folder, which is removed. Raises Unavailable where no mirror has a file.
    """
    arrays: Arrays = {}
    alive = list(urls)  # a mirror that can't be reached is not asked for the other files
    if cache:
        try:
            _read_cached(arrays, cache, say)
            _download_missing(arrays, cache, alive, say)
            return arrays
        except OSError as error:
            why = f"can't use the cache {cache}: {error.strerror or error}"
    else:
        why = "can't find a home folder for the cache"
    say(f"{why}; downloads are not kept; DIST_VGG_CACHE can name another folder")
    try:
        with TemporaryDirectory(prefix="dist_vgg-", ignore_cleanup_errors=True) as folder:
            _download_missing(arrays, Path(folder), alive, say)
    except OSError as error:
        raise Unavailable(
            f"can't use a temporary folder either: {error.strerror or error}; set DIST_VGG_CACHE "
            "or TMPDIR to a folder that can be written"
        ) from error
    return arrays


def _read_cached(arrays: Arrays, cache: Path, say: Say) -> None:
    """Add the files that the cache holds; remove damaged ones."""
    for name in NAMES:
        while name not in arrays and (path := find_file(cache, name)):
            try:
                arrays[name] = _read_verified(path, name, str(path))
            except UserError as error:
                say(f"{error}; to be downloaded again")
                path.unlink()


def _download_missing(arrays: Arrays, folder: Path, alive: list[str], say: Say) -> None:
    """Add the files that are still missing, by way of a folder that is to keep them."""
    missing = [name for name in NAMES if name not in arrays]
    if missing:
        # A folder that can't be written is better known before a download is announced.
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    for name in missing:
        arrays[name] = _download(folder, name, alive, say)


def _download(folder: Path, name: str, alive: list[str], say: Say) -> np.ndarray:
    """Download one file from the first mirror that has it whole; unreachable ones leave `alive`."""
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
        _read_verified(Path(part), name, url)
        Path(part).chmod(0o644)  # a cache may be shared, and temporary files are private

    for mirror in list(alive):
        url = f"{mirror}{name}.gz"
        say(f"downloading {url}")
        try:
            path = pooch.retrieve(url, None, f"{name}.gz", folder, downloader=verified)
            return _read_verified(Path(path), name, path)
        except UserError as error:
            say(f"{error}; not used")
        except requests.HTTPError as error:
            say(f"{mirror} has no {name}.gz: {str(error).split(' for url')[0]}")
        except (requests.ConnectionError, requests.Timeout) as error:
            alive.remove(mirror)
            slow = isinstance(error, requests.Timeout)
            say(f"{mirror} {'does not answer' if slow else 'can not be reached'}; not tried again")
        except requests.RequestException as error:
            say(f"{url} did not come whole: {str(error).splitlines()[0]}")
    raise Unavailable(
        f"no mirror gave {name}; copy MNIST's four files to a folder and use --raw DIR, "
        "or set DIST_VGG_MIRRORS"
    )


def _ndim(name: str) -> int:
    return 3 if "idx3" in name else 1


def _read_verified(path: Path, name: str, called: str) -> np.ndarray:
    array = read_idx(path, _ndim(name), called)
    _check_content(name, array, called)
    return array


def _check_content(name: str, array: np.ndarray, called: str) -> None:
    if idx_sha256(array) != SHA256[name]:
        raise UserError(f"{called} is not MNIST's {name}: its content has another SHA-256")


def _check_pair(images: np.ndarray, called: Path, labels: np.ndarray, of: Path) -> None:
    if len(images) != len(labels):
        raise UserError(
            f"{called} has {len(images):,} images, but {of.name} has {len(labels):,} labels"
        )
    if len(labels) and labels.max() >= CLASSES:
        row = int(labels.argmax())
        raise UserError(f"{of} has the label {labels[row]} at {row}, outside 0..{CLASSES - 1}")


def _mnist(arrays: Mapping[str, np.ndarray]) -> Raw:
    return Raw(
        "mnist",
        {split: arrays[images] for split, (images, _) in FILES.items()},
        {split: arrays[labels] for split, (_, labels) in FILES.items()},
        {split: np.arange(len(arrays[labels])) for split, (_, labels) in FILES.items()},
    )


def digits() -> Raw:
    """Give scikit-learn's bundled digits: 8x8 pixels, every fifth one for the test.

    E. Alpaydin and C. Kaynak, "Optical recognition of handwritten digits", UCI, 1998.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "scikit-learn, which brings the stand-in for MNIST, is not installed; "
            "pip install 'dist_vgg[digits]'"
        ) from error
    data = load_digits()
    images = np.rint(data.images * (255 / 16)).astype(np.uint8)
    labels = data.target.astype(np.uint8)
    every = np.arange(len(labels))
    ids = {"train": every[every % 5 != 0], "test": every[every % 5 == 0]}
    return Raw(
        "digits",
        {split: images[rows] for split, rows in ids.items()},
        {split: labels[rows] for split, rows in ids.items()},
        ids,
    )


def hold_out(raw: Raw, rows: np.ndarray) -> Raw:
    """Give the data set with some training images in place of the test images."""
    images, labels, ids = (
        {"train": arrays["train"], "test": arrays["train"][rows]}
        for arrays in (raw.images, raw.labels, raw.ids)
    )
    return Raw(raw.source, images, labels, ids)


def zoom(images: np.ndarray, size: int, label: str = "") -> np.ndarray:
    """Enlarge (n, h, w) images to (n, size, size, 1), bicubic (the filter that ZOOM names).

    A terminal sees a progress bar with the label.
    """
    large = np.empty((len(images), size, size, 1), np.uint8)
    # None: the bar shows only on a terminal.
    for row, image in enumerate(tqdm(images, label, unit=" images", disable=None)):
        picture = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
        large[row, :, :, 0] = np.asarray(picture)
    return large
