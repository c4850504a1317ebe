"""Show each layer of a network: shape, parameters, bytes and multiply-adds, for any input.

python -m dist_vgg.summary
python -m dist_vgg.summary --network vgg19 --size 224 --channels 3 --classes 1000
"""

import argparse
from collections.abc import Sequence
from math import prod

from dist_vgg.base.command_line import Parser, run_alone
from dist_vgg.base.errors import UserError
from dist_vgg.network.sequential import Sequential
from dist_vgg.network.vgg import BLOCKS, STRIDE, VGG16, vgg

FLOAT_BYTES = 4


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    options = read_options(argv)
    print(layer_table(vgg(**vars(options))))
    return 0


def read_options(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of `vgg`; UserError for a value out of range."""
    parser = Parser(prog="python -m dist_vgg.summary", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--network", dest="name", choices=BLOCKS, default=VGG16, help=f"(default: {VGG16})"
    )
    for name, default, help in (
        ("size", 64, f"side of the image, a multiple of {STRIDE}"),
        ("channels", 1, "channels of the image"),
        ("classes", 10, "classes"),
    ):
        parser.add_argument(
            f"--{name}", type=int, default=default, metavar="N", help=f"{help} (default: {default})"
        )
    parser.add_argument(
        "--width", type=float, default=1.0, metavar="X", help="factor on hidden widths (default: 1)"
    )
    options = parser.parse_args(argv)
    for name in ("channels", "classes", "width"):
        if not 0 < getattr(options, name) <= 1e6:
            raise UserError(
                f"--{name} {getattr(options, name)} is out of range: "
                "it must be above 0 and at most 1e6"
            )
    if options.size <= 0 or options.size % STRIDE:
        raise UserError(f"--size {options.size}: it must be a multiple of {STRIDE}, such as 64")
    return options


def layer_table(net: Sequential) -> str:
    """One line for each layer of a network, then the totals; activations are those of one image."""
    shape = net.input_shape
    header = ("layer", "output", "parameters", "bytes", "activations", "multiply-adds")
    rows = [("input", _by(shape), 0, 0, FLOAT_BYTES * prod(shape), 0)]
    for layer in net.layers:
        shape = layer.output_shape(shape)
        parameters = layer.parameter_shapes()
        count = sum(map(prod, parameters.values()))
        # Each weight is used once for each pixel of the output.
        macs = prod(parameters.get("weight", (0,))) * prod(shape[:-1])
        rows.append(
            (layer.name, _by(shape), count, count * FLOAT_BYTES, prod(shape) * FLOAT_BYTES, macs)
        )
    totals = [sum(column) for column in zip(*(row[2:] for row in rows), strict=True)]
    lines = ["{:<10} {:>12} {:>14} {:>14} {:>14} {:>16}".format(*header)]
    lines += ["{:<10} {:>12} {:>14,} {:>14,} {:>14,} {:>16,}".format(*row) for row in rows]
    lines += [
        "",
        f"Total Parameters     {totals[0]:>16,}",
        f"  bytes              {totals[1]:>16,}",
        f"Activations, bytes   {totals[2]:>16,}   of one image, all layers",
        f"Multiply-adds        {totals[3]:>16,}   forward, one image; training takes about 3 times",
    ]
    return "\n".join(lines)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


if __name__ == "__main__":
    run_alone("dist_vgg.summary", main)
