"""Where the images come from. To add a source, give it a name here and a module that reads it.

Such a module has one function that returns a `Raw`, and raises UserError where it cannot.
"""

from collections.abc import Callable
from pathlib import Path

from data_prep import digits, download, mnist
from data_prep.raw import Raw
from dist_vgg.base.cache import cache_folder
from dist_vgg.base.errors import UserError

SOURCES = ("auto", "mnist", "digits")


def load(source: str, folder: Path | None, say: Callable[[str], None]) -> Raw:
    """The data set of a source; "auto" is MNIST, or the digits where MNIST cannot be had.

    `folder` holds MNIST's IDX files; without one they come from the cache or a mirror. `say`
    prints a line for the user.
    """
    if source == "digits":
        if folder:
            raise UserError("--raw has MNIST's files; leave it out, or leave out --source digits")
        return digits.load()
    if folder:
        return mnist.to_raw(mnist.read_folder(folder))
    try:
        return mnist.to_raw(download.fetch(cache_folder(), download.mirrors(), say))
    except download.Unavailable as error:
        if source == "mnist":
            raise
        raw = digits.load()
        _warn(error, sum(map(len, raw.labels.values())), say)
        return raw


def _warn(error: Exception, images: int, say: Callable[[str], None]) -> None:
    """Say loudly that the digits stand in for MNIST."""
    stars = "*" * 88
    say(stars)
    say(f"*** THIS IS NOT MNIST: {error}")
    say(f"*** scikit-learn's handwritten digits stand in for it: {images:,} images of 8x8 pixels.")
    say("*** They are much easier than MNIST: good for trying the program, not for results.")
    say(stars)
