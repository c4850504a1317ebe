"""Prepare MNIST for training: find or download it, enlarge it, write it as HDF5 shards.

    python -m data_prep                        all of MNIST, 8 shards, in ./data
    python -m data_prep --limit 1000           a small set, to try things
    python -m data_prep --raw mnist            from MNIST's own files, already in ./mnist
    python -m data_prep --check data           verify a prepared folder

Equal options give equal data, whatever the number of shards.
"""

import argparse
import json
import os
import shlex
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_prep import deal, mnist
from dist_vgg.base.command_line import Parser
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import SCHEMA, fsync
from dist_vgg.data.dataset import check_set, open_set
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import HELD_OUT, SetInfo
from dist_vgg.data.shards import MAX_BYTES, find_shards, write_shard

# What those look for who come from other programs.
HINTS = {
    name: f"did you mean {option}?"
    for names, option in (
        ("ranks workers num-workers np n files", "--shards"),
        ("samples images count num train-size subset", "--limit"),
        ("input data mnist path folder", "--raw"),
        ("output output-dir out-dir", "--out"),
        ("force replace", "--overwrite"),
        ("pixels side resize image-size", "--size"),
        ("verify", "--check"),
        ("validation val val-size", "--held-out"),
    )
    for name in names.split()
}
MAX_SIZE = 1024  # an image's side; beyond it the whole set fits no memory


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and give its exit status."""
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        if args.check is not None:
            for line in check_set(args.check):
                print(line)
        else:
            prepare(args)
    except UserError as error:
        print(f"data_prep: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.filename is None:
            raise
        # A path that can't even be looked at: forbidden, too long, a loop of links.
        print(f"data_prep: error: can't use {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("data_prep: interrupted; run it again to have the data", file=sys.stderr)
        return 130
    return 0


def prepare(args: argparse.Namespace) -> None:
    """Make the data set that the options ask for, unless the folder holds it already."""
    if args.out.is_file():
        raise UserError(f"--out {args.out} is a file, not a folder; choose another name")
    raw = mnist.load(args.source, args.raw, _say)
    digest = raw.digest()
    orders = {split: deal.shuffled(len(y), args.seed, split) for split, y in raw.labels.items()}
    order = orders["train"]
    limit = args.limit if args.limit and args.limit < len(order) else None
    if args.held_out:
        left = len(order) - args.held_out
        if left < (args.limit or 1):
            few = f"{max(0, left):,} of the {len(order):,} training images"
            purpose = f"--limit {args.limit}" if args.limit else "training"
            raise UserError(
                f"--held-out {args.held_out} leaves {few}, too few for {purpose}; hold out fewer"
                + (", or set a lower --limit" if args.limit else "")
            )
        limit = limit or left
    if limit:
        chosen = deal.choose(raw.labels["train"][order], limit)
        orders["train"] = order[chosen]
    if args.held_out:
        more = deal.choose(raw.labels["train"][order], limit + args.held_out)
        raw = mnist.hold_out(raw, order[np.setdiff1d(more, chosen)])
        orders["test"] = np.arange(args.held_out)
    for split, order in orders.items():
        if args.shards > len(order):
            images = f"{len(order):,} {_called(split, args)} images"
            raise UserError(f"--shards {args.shards} is more than the {images}")
        # A shard that `write_shard` will refuse is better refused before the work.
        fewest = -(-len(order) // (MAX_BYTES // args.size**2))
        if args.shards < fewest:
            raise UserError(
                f"--size {args.size} needs at least --shards {fewest} for {len(order):,} images"
            )

    request = {
        "limit": limit,
        "raw": digest,
        "schema": SCHEMA,
        "seed": args.seed,
        "shards": args.shards,
        "size": args.size,
        "source": raw.source,
        "zoom": mnist.ZOOM,
        **({HELD_OUT: args.held_out} if args.held_out else {}),
    }
    asked = json.dumps(request, sort_keys=True)
    if find_shards(args.out) and not args.overwrite:
        info = _same_set(args.out, asked)
        print(f"{args.out} holds this data set already: nothing to do")
    else:
        _check_memory(sum(map(len, orders.values())), args.size)
        info = _write(args, asked, raw, orders)
        print(f"wrote {2 * info.shards} shards to {args.out}")
    _report(args.out, info)


def _write(
    args: argparse.Namespace, asked: str, raw: mnist.Raw, orders: Mapping[str, np.ndarray]
) -> SetInfo:
    """Enlarge the images and write all shards."""
    with _staged(args.out) as stage:
        splits = {}
        for split, order in orders.items():
            _say(
                f"enlarging {len(order):,} {_called(split, args)} images to {args.size}x{args.size}"
            )
            pixels = mnist.zoom(raw.images[split][order], args.size, split)
            splits[split] = Samples(pixels, raw.labels[split][order], raw.ids[split][order])
        mean, std = pixel_statistics(splits["train"].pixels)
        info = SetInfo(
            source=raw.source,
            request=asked,
            shards=args.shards,
            size=args.size,
            channels=1,
            classes=mnist.CLASSES,
            mean=mean,
            std=std,
            zoom=mnist.ZOOM,
            seed=args.seed,
            train_count=len(splits["train"]),
            test_count=len(splits["test"]),
            digest=set_digest(splits),
        )
        _say(f"writing {args.shards} train and {args.shards} {_called('test', args)} shards")
        with tqdm(total=2 * args.shards, desc="shards", disable=None) as bar:
            for split, samples in splits.items():
                for index, rows in enumerate(deal.deal(samples.labels, args.shards)):
                    write_shard(stage, split, index, samples[rows], info)
                    bar.update()
    return info


def _called(split: str, args: argparse.Namespace) -> str:
    """What a person is to call the images of a split."""
    return "held-out" if args.held_out and split == "test" else split


def _same_set(out: Path, asked: str) -> SetInfo:
    """What the folder's set says of itself, if it is whole and the one asked for."""
    mend = "choose another --out, or replace them with --overwrite"
    try:
        info = open_set(out)
    except UserError as error:
        raise UserError(f"{out} holds shards that are no whole data set; {mend}") from error
    if info.request != asked:
        old, new = json.loads(info.request), json.loads(asked)
        differ = ", ".join(
            f"{key} {old.get(key)}" for key in {**new, **old} if old.get(key) != new.get(key)
        )
        raise UserError(f"{out} holds other shards ({differ}); {mend}")
    return info


@contextmanager
def _staged(out: Path) -> Iterator[Path]:
    """Yield a folder to write shards to; they replace those in `out` when all went well.

    Whatever goes wrong before, `out` is what it was, and is not there if it was not.
    """
    made: list[Path] = []
    stage = out / f"{_stage_prefix()}{os.getpid()}"
    try:
        try:
            made = [place for place in (out, *out.parents) if not place.exists()]
            out.mkdir(parents=True, exist_ok=True)
            _remove_stale(out)
            stage.mkdir()
        except OSError as error:
            raise UserError(
                f"can't write to --out {out}: {error.strerror}; choose another folder"
            ) from error
        yield stage
        try:
            for path in find_shards(out):
                path.unlink()
            for path in find_shards(stage):
                path.rename(out / path.name)
            fsync(out)
        except OSError as error:
            raise UserError(
                f"can't replace the shards in {out}: {error.strerror}; run again with --overwrite"
            ) from error
        made = []
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        for place in made:
            with suppress(OSError):
                place.rmdir()


def _stage_prefix() -> str:
    # Process numbers mean something only on their own host, and folders are often shared.
    return f".partial-{socket.gethostname()}-"


def _remove_stale(out: Path) -> None:
    """Remove what runs that were killed on this host have left."""
    for path in out.glob(f"{_stage_prefix()}*"):
        pid = path.name.removeprefix(_stage_prefix())
        if pid.isdecimal() and (int(pid) == os.getpid() or not _alive(int(pid))):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 only asks
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _check_memory(images: int, size: int) -> None:
    need = images * size * size
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > 0.8 * have:
        raise UserError(
            f"--size {size}: {images:,} images need {need / 2**30:.0f} GiB of memory, this machine "
            f"has {have / 2**30:.0f}; choose a smaller --size or --limit"
        )


def _report(out: Path, info: SetInfo) -> None:
    name = "MNIST" if info.source == "mnist" else "scikit-learn's digits, NOT MNIST"
    folder = "" if out == Path("data") else f" --data {shlex.quote(str(out))}"
    print(f"source   {name}, {info.size}x{info.size} pixels ({info.zoom})")
    print(f"samples  {info.train_count:,} train, {info.test_count:,} {info.test_name}")
    print(f"shards   {info.shards} for each")
    print(f"pixels   mean {info.mean:.4f}, standard deviation {info.std:.4f}")
    print(f"SHA-256  {info.digest}")
    print(f"next     mpirun -n {info.shards} python -m dist_vgg.train{folder}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    """Help that shows the defaults, where there are any."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return super()._get_help_string(action) if action.default else action.help


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line; UserError where it makes no sense."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.check is not None and args != parser.parse_args(["--check", str(args.check)]):
        parser.error("--check verifies a folder and takes no other option")
    if args.limit is not None and args.limit < args.shards:
        parser.error(f"--limit {args.limit} leaves some of --shards {args.shards} empty")
    return args


def _parser() -> Parser:
    parser = Parser(
        prog="python -m data_prep",
        hints=HINTS,
        description=(__doc__ or "").splitlines()[0],
        formatter_class=_Help,
    )
    group = parser.add_argument_group("where from")
    group.add_argument(
        "--source",
        choices=("auto", "mnist", "digits"),
        default="auto",
        help="auto: MNIST, or scikit-learn's digits where it can't be had",
    )
    group.add_argument(
        "--raw",
        type=Path,
        metavar="DIR",
        help="folder with MNIST's four IDX files, gzipped or not; "
        "without it they come from the cache (DIST_VGG_CACHE) or a mirror (DIST_VGG_MIRRORS)",
    )
    group = parser.add_argument_group("what")
    group.add_argument(
        "--limit",
        type=_integer(1),
        metavar="N",
        help="use only N training images, equally many of each class; the test set stays whole",
    )
    group.add_argument(
        "--held-out",
        type=_integer(1),
        metavar="N",
        help="instead of the test set, N training images that are not used: to choose a recipe by",
    )
    group.add_argument(
        "--size",
        type=_integer(32, MAX_SIZE, 32),
        default=64,
        metavar="PIXELS",
        help="side of the enlarged images, a multiple of 32",
    )
    group.add_argument(
        "--seed",
        type=_integer(0, 2**63 - 1),
        default=0,
        metavar="N",
        help="of the shuffle (default: 0)",
    )
    group = parser.add_argument_group("where to")
    group.add_argument("--out", type=Path, default=Path("data"), metavar="DIR", help="folder")
    group.add_argument(
        "--shards",
        type=_integer(1),
        default=8,
        metavar="N",
        help="files in each split: the most ranks that can train on them",
    )
    group.add_argument(
        "--overwrite", action="store_true", help="replace the shards that the folder holds"
    )
    group = parser.add_argument_group("instead")
    group.add_argument(
        "--check", type=Path, metavar="DIR", help="verify the shards in a folder, change nothing"
    )
    return parser


def _integer(least: int, most: int | None = None, multiple: int = 1) -> Callable[[str], int]:
    """Give the reader of an option whose value is an integer within bounds."""

    def integer(text: str) -> int:
        what = f"a multiple of {multiple}" if multiple > 1 else "an integer"
        bounds = f"from {least}" + (f" to {most}" if most else " up")
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least or (most and value > most) or value % multiple:
            raise argparse.ArgumentTypeError(f"must be {what} {bounds}, not {text}")
        return value

    return integer


if __name__ == "__main__":
    sys.exit(main())
