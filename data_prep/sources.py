"""Where the images come from. To add a source, give it a name here and a module that reads it.

Such a module has one function that returns a `Raw`, and raises UserError where it cannot.
"""

from collections.abc import Callable
from pathlib import Path

from data_prep import cifar10, digits, download, fashion_mnist, folder, idx_files, mnist, npz
from data_prep.known import KnownSet
from data_prep.raw import Raw
from dist_vgg.base.errors import UserError

# What a report calls the source.
TITLES = {
    "mnist": "MNIST",
    "digits": "scikit-learn's digits, NOT MNIST",
    "fashion-mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "idx": "IDX files",
    "images": "a folder of pictures",
    "npz": "arrays of an npz file",
}
SOURCES = ("auto", *TITLES)
KNOWN: dict[str, KnownSet] = {
    known.source: known for known in (mnist.MNIST, fashion_mnist.FASHION_MNIST, cifar10.CIFAR10)
}
Say = Callable[[str], None]


def load(
    source: str, raw: Path | None, say: Say, test_share: float | None = None, seed: int = 0
) -> Raw:
    """The data set of a source; "auto" is MNIST, or the digits where MNIST cannot be had.

    `raw` has the source's files; without it, known ones come from the cache or a mirror. `say`
    prints a line for the user. `test_share` and `seed` choose test images among the pictures of a
    folder.
    """
    if source == "digits":
        if raw:
            raise UserError("--raw has MNIST's files; leave it out, or leave out --source digits")
        return digits.load()
    if source in ("idx", "images", "npz"):
        if raw is None:
            wanted = "FILE.npz" if source == "npz" else "DIR"
            raise UserError(f"--source {source} needs --raw {wanted}, which has the images")
        if source == "images":
            return folder.load(raw, test_share, seed)
        return npz.load(raw) if source == "npz" else idx_files.load(raw)
    known = KNOWN.get(source, mnist.MNIST)
    if raw:
        return known.to_raw(known.read_folder(raw))
    try:
        return known.to_raw(download.fetch(download.cache(known), known, say))
    except download.Unavailable as error:
        if source != "auto":
            raise
        stand_in = digits.load()
        _warn(error, sum(map(len, stand_in.labels.values())), say)
        return stand_in


def _warn(error: Exception, images: int, say: Say) -> None:
    """Say loudly that the digits stand in for MNIST."""
    stars = "*" * 88
    say(stars)
    say(f"*** THIS IS NOT MNIST: {error}")
    say(f"*** scikit-learn's handwritten digits stand in for it: {images:,} images of 8x8 pixels.")
    say("*** They are much easier than MNIST: good for trying the program, not for results.")
    say(stars)
