"""The preparation: images are found, chosen, enlarged, dealt out, and written as shards."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from tqdm import tqdm

from data_prep import sources
from data_prep.raw import CLASSES, Arrays
from data_prep.selection import Selection, select
from data_prep.zoom import ZOOM, enlarge
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import SCHEMA
from dist_vgg.data.dataset import open_set
from dist_vgg.data.deal import deal
from dist_vgg.data.samples import Samples, pixel_statistics, set_digest
from dist_vgg.data.set_info import HELD_OUT, SetInfo
from dist_vgg.data.shards import MAX_BYTES, find_shards, write_shard
from dist_vgg.data.staging import staged


def prepare(args: argparse.Namespace) -> None:
    """Make the data set that the options ask for, unless the folder holds it already."""
    if args.out.is_file():
        raise UserError(f"--out {args.out} is a file, not a folder; choose another name")
    raw = sources.load(args.source, args.raw, _say)
    selected = select(raw, args.limit, args.held_out, args.seed)
    _check_shards(args, selected.rows)
    request = _request(args, raw.digest(), selected)
    if find_shards(args.out) and not args.overwrite:
        info = _existing(args.out, request)
        print(f"{args.out} holds this data set already: nothing to do")
    else:
        _check_memory(sum(map(len, selected.rows.values())), args.size)
        info = _write(args, request, selected)
        print(f"wrote {2 * info.shards} shards to {args.out}")
    _report(args.out, info)


def _check_shards(args: argparse.Namespace, rows: Arrays) -> None:
    """Raise UserError, before the work, where --shards are too many or too few for a split."""
    for split, order in rows.items():
        if args.shards > len(order):
            images = f"{len(order):,} {_called(split, args)} images"
            raise UserError(f"--shards {args.shards} is more than the {images}")
        # As many as `write_shard` takes.
        fewest = -(-len(order) // (MAX_BYTES // args.size**2))
        if args.shards < fewest:
            raise UserError(
                f"--size {args.size} needs at least --shards {fewest} for {len(order):,} images"
            )


def _request(args: argparse.Namespace, digest: str, selected: Selection) -> str:
    """What the shards depend on, as JSON: equal requests give equal shards.

    `digest` is that of all images of the source.
    """
    request = {
        "limit": selected.limit,
        "raw": digest,
        "schema": SCHEMA,
        "seed": args.seed,
        "shards": args.shards,
        "size": args.size,
        "source": selected.raw.source,
        "zoom": ZOOM,
        **({HELD_OUT: args.held_out} if args.held_out else {}),
    }
    return json.dumps(request, sort_keys=True)


def _existing(out: Path, request: str) -> SetInfo:
    """The facts of the set in the folder; UserError where it is damaged or of another request."""
    mend = "choose another --out, or replace them with --overwrite"
    try:
        info = open_set(out)
    except UserError as error:
        raise UserError(f"{out} holds shards that are no whole data set; {mend}") from error
    if info.request != request:
        old, new = json.loads(info.request), json.loads(request)
        differ = ", ".join(
            f"{key} {old.get(key)}" for key in {**new, **old} if old.get(key) != new.get(key)
        )
        raise UserError(f"{out} holds other shards ({differ}); {mend}")
    return info


def _check_memory(images: int, size: int) -> None:
    """Raise UserError where the enlarged images would not fit into this machine's memory."""
    need = images * size * size
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > 0.8 * have:
        raise UserError(
            f"--size {size}: {images:,} images need {need / 2**30:.0f} GiB of memory, this machine "
            f"has {have / 2**30:.0f}; choose a smaller --size or --limit"
        )


def _write(args: argparse.Namespace, request: str, selected: Selection) -> SetInfo:
    """Enlarge the images and write all shards."""
    with staged(args.out, f"--out {args.out}", "run again with --overwrite") as stage:
        splits = _enlarged(args, selected)
        mean, std = pixel_statistics(splits["train"].pixels)
        info = SetInfo(
            source=selected.raw.source,
            request=request,
            shards=args.shards,
            size=args.size,
            channels=1,
            classes=CLASSES,
            mean=mean,
            std=std,
            zoom=ZOOM,
            seed=args.seed,
            train_count=len(splits["train"]),
            test_count=len(splits["test"]),
            digest=set_digest(splits),
        )
        _say(f"writing {args.shards} train and {args.shards} {_called('test', args)} shards")
        with tqdm(total=2 * args.shards, desc="shards", disable=None) as bar:
            for split, samples in splits.items():
                for index, rows in enumerate(deal(samples.labels, args.shards)):
                    write_shard(stage, split, index, samples[rows], info)
                    bar.update()
    return info


def _enlarged(args: argparse.Namespace, selected: Selection) -> dict[str, Samples]:
    """The chosen samples of each split, in order, at the size that was asked for."""
    raw, splits = selected.raw, {}
    for split, rows in selected.rows.items():
        images = f"{len(rows):,} {_called(split, args)} images"
        _say(f"enlarging {images} to {args.size}x{args.size}")
        pixels = enlarge(raw.images[split][rows], args.size, split)
        splits[split] = Samples(pixels, raw.labels[split][rows], raw.ids[split][rows])
    return splits


def _called(split: str, args: argparse.Namespace) -> str:
    """What messages call the images of a split."""
    return "held-out" if args.held_out and split == "test" else split


def _report(out: Path, info: SetInfo) -> None:
    """Print what the folder now holds, and the command to train on it."""
    name = "MNIST" if info.source == "mnist" else "scikit-learn's digits, NOT MNIST"
    folder = "" if out == Path("data") else f" --data {shlex.quote(str(out))}"
    print(f"source   {name}, {info.size}x{info.size} pixels ({info.zoom})")
    print(f"samples  {info.train_count:,} train, {info.test_count:,} {info.test_name}")
    print(f"shards   {info.shards} for each")
    mean, std = (", ".join(f"{x:.4f}" for x in values) for values in (info.mean, info.std))
    print(f"pixels   mean {mean}, standard deviation {std}")
    print(f"SHA-256  {info.digest}")
    print(f"next     mpirun -n {info.shards} python -m dist_vgg.train{folder}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
