"""Fashion-MNIST and CIFAR-10, from folders and from mirrors, and IDX files of any kind."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from idx import tiny_arrays, write_files
from preparing import Run, everything

from data_prep import cifar10, download, fashion_mnist
from data_prep.idx import idx_sha256
from data_prep.idx_set import NAMES
from data_prep.sources import load
from dist_vgg.base.errors import UserError
from dist_vgg.data.dataset import open_set

pytestmark = pytest.mark.usefixtures("quick_disk")
FASHION = fashion_mnist.FASHION_MNIST


@pytest.fixture
def fashion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few images that count as Fashion-MNIST."""
    folder = write_files(tmp_path / "fashion", tiny_arrays())
    for name, array in tiny_arrays().items():
        monkeypatch.setitem(fashion_mnist.SHA256, name, idx_sha256(array))
    return folder


def test_fashion_mnist_from_a_folder(run: Run, fashion: Path, tmp_path: Path) -> None:
    words = ("--source", "fashion-mnist", "--raw", fashion, "--size", 32, "--out", tmp_path / "out")
    status, out, _ = run(*words)
    assert status == 0
    assert "source   Fashion-MNIST, 32x32 pixels" in out
    info = open_set(tmp_path / "out")
    assert info.class_names[9] == "Ankle boot"
    assert (info.preparation, info.channels) == ("crop", 1)


def test_a_folder_of_pictures_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(
        UserError, match=r"none of Fashion-MNIST's four files; if .* --source image"
    ):
        load("fashion-mnist", tmp_path, pytest.fail)


def test_fashion_mnist_compressed_otherwise(fashion: Path, tmp_path: Path) -> None:
    plain = write_files(tmp_path / "plain", tiny_arrays(), zipped=False)
    assert load("fashion-mnist", plain, pytest.fail).source == "fashion-mnist"
    write_files(plain, tiny_arrays(train=50), zipped=False)
    with pytest.raises(UserError, match=f"{NAMES[0]} is not Fashion-MNIST's .* another SHA-256"):
        load("fashion-mnist", plain, pytest.fail)


def test_fashion_mnist_in_the_cache(fashion: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIST_VGG_CACHE", str(fashion.parent))
    assert download.cache(FASHION) == fashion.parent / "fashion-mnist"
    fashion.rename(fashion.parent / "fashion-mnist")
    monkeypatch.setenv("DIST_VGG_MIRRORS", "http://127.0.0.1:9/")
    assert load("fashion-mnist", None, pytest.fail).source == "fashion-mnist"
    first = fashion.parent / "fashion-mnist" / f"{NAMES[0]}.gz"
    write_files(first.parent, {NAMES[0]: np.zeros((60, 6, 6), np.uint8)})
    lines: list[str] = []
    with pytest.raises(UserError, match="copy Fashion-MNIST's 4 files to a folder and use --raw"):
        load("fashion-mnist", None, lines.append)
    assert lines[0].endswith(f"{NAMES[0]}: its content has another SHA-256; to be downloaded again")


def archive(images: int = 5, without: str = "") -> bytes:
    """CIFAR-10's archive with so many images in each file."""
    rng, file = np.random.default_rng(0), io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as it:
        for name in (
            "cifar-10-batches-bin/readme.html",
            *cifar10.MEMBERS["train"],
            *cifar10.MEMBERS["test"],
        ):
            records = rng.integers(0, 256, (images, cifar10.RECORD), np.uint8)
            records[:, 0] = np.arange(images) % 10
            info = tarfile.TarInfo(name)
            info.size = records.nbytes
            if name != without:
                it.addfile(info, io.BytesIO(records.tobytes()))
    return file.getvalue()


def test_cifar10(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / cifar10.NAME).write_bytes(archive(5))
    words = ("--source", "cifar10", "--raw", tmp_path, "--size", 32, "--shards", 5)
    words = (*words, "--out", tmp_path / "out")
    assert "lacks some of CIFAR-10's files" in run(*words)[2]
    monkeypatch.setattr(cifar10, "IMAGES", 5)
    assert "cifar-10-binary.tar.gz: it has another SHA-256" in run(*words)[2]
    content = cifar10.read_archive(tmp_path / cifar10.NAME, "it", 5)
    for name, data in (
        ("CONTENT_SHA256", content.tobytes()),
        ("SHA256", (tmp_path / cifar10.NAME).read_bytes()),
    ):
        with monkeypatch.context() as known:
            known.setattr(cifar10, name, hashlib.sha256(data).hexdigest())
            assert run(*words, "--overwrite")[0] == 0
    info, test = open_set(tmp_path / "out"), everything(tmp_path / "out")["test"]
    assert (info.channels, info.class_names[3], len(test)) == (3, "cat", 5)
    records = cifar10.read_archive(tmp_path / cifar10.NAME, "it", 5)
    # As it is on disk: all of red, then green, then blue, row by row.
    first = records[25]
    assert test.pixels[0, 1, 2].tolist() == [first[1 + 1024 * c + 32 + 2] for c in range(3)]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (archive(without=cifar10.MEMBERS["test"][0]), "lacks some of CIFAR-10's files"),
        (archive(4), "lacks some of CIFAR-10's files"),
        (archive()[:5000], "cut-short archive"),
        (b"hello", "cut-short archive"),
        (b"", "cut-short archive"),
    ],
)
def test_damaged_archives(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "a.tar.gz"
    path.write_bytes(data)
    with pytest.raises(UserError, match=words):
        cifar10.read_archive(path, str(path), images=5)


def test_idx_files_of_any_name_and_shape(run: Run, tmp_path: Path) -> None:
    given = tiny_arrays(side=9)
    given[NAMES[0]], given[NAMES[2]] = (given[name][:, :5] for name in (NAMES[0], NAMES[2]))
    given[NAMES[1]] += 5
    given = {f"letters-{name}".replace("t10k", "test"): a for name, a in given.items()}
    given = {name: a.astype(np.uint8) for name, a in given.items()}
    words = ("--source", "idx", "--raw", write_files(tmp_path / "raw", given), "--size", 32)
    words = (*words, "--out", tmp_path / "out")
    status, _, error = run(*words)
    assert status == 2  # the labels are from 5 on
    assert "has no training images of the class 0" in error
    for name in given:
        if "labels" in name:
            given[name] = given[name] % 10
    write_files(tmp_path / "raw", given)
    assert run(*words, "--fit", "pad")[0] == 0
    info = open_set(tmp_path / "out")
    assert (info.source, info.preparation, info.classes) == ("idx", "pad", 10)
    pixels = everything(tmp_path / "out")["train"].pixels
    assert not pixels[:, 0].any() and pixels[:, 16].any()


def test_idx_files_that_are_missing_or_twice(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone is not a folder"):
        load("idx", tmp_path / "gone", print)
    with pytest.raises(UserError, match=f"has no file with a name that ends in {NAMES[0]}"):
        load("idx", tmp_path, print)
    write_files(tmp_path, tiny_arrays())
    write_files(tmp_path, tiny_arrays(), zipped=False)
    with pytest.raises(UserError, match=f"has several files .* ends in {NAMES[0]}"):
        load("idx", tmp_path, print)


def test_idx_counts_must_agree(tmp_path: Path) -> None:
    given = tiny_arrays()
    given[NAMES[1]] = given[NAMES[1]][:-1]
    with pytest.raises(UserError, match="has 60 images, but 59 labels"):
        load("idx", write_files(tmp_path, given), print)
