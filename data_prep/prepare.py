"""The preparation: images are found, chosen, enlarged, dealt out, and written as shards."""

import argparse
import json
import shlex
import sys
from pathlib import Path

from data_prep import sources
from data_prep.raw import Arrays, Raw
from data_prep.selection import select
from data_prep.writing import Shape, check_disk, facts, spooled, write_shards
from dist_vgg.base.errors import UserError
from dist_vgg.base.files import SCHEMA
from dist_vgg.data.dataset import open_set
from dist_vgg.data.set_info import SetInfo
from dist_vgg.data.shards import MAX_BYTES, find_shards
from dist_vgg.data.staging import staged

ZOOM = "bicubic"  # the filter that resizes images, by its name in the shards


def prepare(args: argparse.Namespace) -> None:
    """Make the data set that the options ask for, unless the folder holds it already."""
    if args.out.is_file():
        raise UserError(f"--out {args.out} is a file, not a folder; choose another name")
    raw = sources.load(args.source, args.raw, _say, args.test_share, args.seed)
    selected = select(raw, args.limit, args.held_out, args.seed)
    fit = "stretch" if raw.preparation == "digit" else raw.preparation
    shape = Shape(args.size, args.channels or raw.channels, args.fit or fit)
    _check_shards(args, {split: len(rows) for split, rows in selected.rows.items()}, shape)
    request = _request(args, raw, selected.limit, shape)
    if find_shards(args.out) and not args.overwrite:
        info = _existing(args.out, request)
        print(f"{args.out} holds this data set already: nothing to do")
    else:
        check_disk(args.out, sum(map(len, selected.rows.values())), shape)
        info = _write(args, request, raw, selected.rows, shape)
        print(f"wrote {len(info.splits) * info.shards} shards to {args.out}")
    _report(args.out, info)


def _check_shards(args: argparse.Namespace, counts: dict[str, int], shape: Shape) -> None:
    """Raise UserError, before the work, where --shards are too many or too few for a split."""
    for split, count in counts.items():
        if args.shards > count:
            raise UserError(f"--shards {args.shards} is more than the {count:,} {split} images")
        # As many as `write_shard` takes.
        fewest = -(-count // (MAX_BYTES // shape.bytes))
        if args.shards < fewest:
            raise UserError(
                f"--size {args.size} needs at least --shards {fewest} for {count:,} images"
            )


def _request(args: argparse.Namespace, raw: Raw, limit: int | None, shape: Shape) -> str:
    """What the shards depend on, as JSON: equal requests give equal shards."""
    request = {
        "limit": limit,
        "raw": raw.digest(),
        "schema": SCHEMA,
        "seed": args.seed,
        "shards": args.shards,
        "size": args.size,
        "source": raw.source,
        "zoom": ZOOM,
        **({"held-out": args.held_out} if args.held_out else {}),
        **({"test-share": args.test_share} if args.test_share else {}),
        **({"skip-bad": True} if args.skip_bad else {}),
    }
    # MNIST and the digits say so only where it was asked for, as they always did.
    if raw.preparation != "digit" or args.fit:
        request["fit"] = shape.fit
    if raw.preparation != "digit" or args.channels:
        request["channels"] = shape.channels
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


def _write(args: argparse.Namespace, request: str, raw: Raw, rows: Arrays, shape: Shape) -> SetInfo:
    """Read and resize the images, and write all shards."""
    with (
        staged(args.out, f"--out {args.out}", "run again with --overwrite") as stage,
        spooled(stage, raw, rows, shape, args.skip_bad, _say) as parts,
    ):
        _check_shards(args, {split: len(part.ids) for split, part in parts.items()}, shape)
        info = SetInfo(
            source=raw.source,
            request=request,
            shards=args.shards,
            size=shape.size,
            channels=shape.channels,
            classes=raw.classes,
            class_names=raw.class_names,
            preparation=_preparation(args, raw, shape),
            zoom=ZOOM,
            seed=args.seed,
            **facts(parts),
        )
        write_shards(stage, parts, info, _say)
    return info


def _preparation(args: argparse.Namespace, raw: Raw, shape: Shape) -> str:
    """How predict is to make such an image of a picture; it finds digits in grey only."""
    plain = raw.preparation != "digit" or shape.channels == 1
    return args.fit or (raw.preparation if plain else shape.fit)


def _report(out: Path, info: SetInfo) -> None:
    """Print what the folder now holds, and the command to train on it."""
    folder = "" if out == Path("data") else f" --data {shlex.quote(str(out))}"
    shape = Shape(info.size, info.channels, info.preparation)
    counts = [f"{info.count('train'):,} train", f"{info.test_count:,} {info.test_name}"]
    counts += [f"{info.held_out_count:,} held-out"] if info.held_out_count else []
    print(f"source   {sources.TITLES[info.source]}, {shape} pixels ({info.zoom})")
    if info.class_names:
        named = ", ".join(info.class_names[:10]) + ", ..." * (info.classes > 10)
        print(f"classes  {info.classes}: {named}")
    print(f"samples  {', '.join(counts)}")
    print(f"shards   {info.shards} for each")
    mean, std = (", ".join(f"{x:.4f}" for x in values) for values in (info.mean, info.std))
    print(f"pixels   mean {mean}, standard deviation {std}")
    print(f"SHA-256  {info.digest}")
    print(f"next     mpirun -n {info.shards} python -m dist_vgg.train{folder}")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
