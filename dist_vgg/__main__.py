"""List the commands of this package: python -m dist_vgg."""

import ast
from collections.abc import Sequence
from pathlib import Path

from dist_vgg.base.command_line import Parser, nearest, run_alone
from dist_vgg.base.errors import UserError

COMMANDS = (
    "data_prep",
    "dist_vgg.train",
    "dist_vgg.elastic",
    "dist_vgg.evaluate",
    "dist_vgg.predict",
    "dist_vgg.preview",
    "dist_vgg.summary",
    "dist_vgg.sweep",
    "dist_vgg.replay",
    "dist_vgg.bench",
    "dist_vgg.chaos",
)


def purpose(command: str) -> str:
    """What a command is for: the first line of its file, which is not imported for that."""
    place = Path(__file__).parents[1].joinpath(*command.split("."))
    path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].partition(":")[0].rstrip(".")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    parser = Parser(prog="python -m dist_vgg", description="List the commands of this package.")
    parser.add_argument("command", nargs="?", help="nothing is started from here")
    wanted = parser.parse_args(argv).command
    if wanted:
        modules = {command.rpartition(".")[2]: command for command in COMMANDS}
        if wanted in modules:
            raise UserError(f"start it with: python -m {modules[wanted]}")
        raise UserError(f"no command {wanted}{nearest(wanted, modules)}; see python -m dist_vgg")
    width = max(map(len, COMMANDS))
    for command in COMMANDS:
        print(f"python -m {command:<{width}}  {purpose(command)}")
    print("\nEach has --help. mpirun starts ranks: mpirun -n 8 python -m dist_vgg.train")
    return 0


if __name__ == "__main__":
    run_alone("dist_vgg", main)
