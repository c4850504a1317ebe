"""Prepare images for training: MNIST or your own, resized and written as HDF5 shards.

    python -m data_prep                        all of MNIST, 8 shards, in ./data
    python -m data_prep --limit 1000           a small set, to try things
    python -m data_prep --raw mnist            from MNIST's own files, already in ./mnist
    python -m data_prep --source images --raw photos --test-share 0.2    your own pictures
    python -m data_prep --check data           verify a prepared folder

Equal options give equal data, whatever the number of shards.
"""

from collections.abc import Sequence

from data_prep.options import parse
from data_prep.prepare import prepare
from dist_vgg.base.command_line import run_alone
from dist_vgg.data.dataset import check_set


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    args = parse(argv, __doc__.splitlines()[0])
    if args.check is not None:
        for line in check_set(args.check):
            print(line)
    else:
        try:
            prepare(args)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("run it again to have the data") from None
    return 0


if __name__ == "__main__":
    run_alone("data_prep", main)
