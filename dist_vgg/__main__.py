"""Start a command by its name, or list them: dist-vgg COMMAND, python -m dist_vgg COMMAND."""

import ast
import runpy
import sys
from pathlib import Path
from typing import NoReturn

from dist_vgg.base import command_line
from dist_vgg.base.command_line import Parser, guarded, nearest
from dist_vgg.base.errors import UserError
from dist_vgg.base.launcher import launched

COMMANDS = {
    "prepare": "data_prep",
    "train": "dist_vgg.train",
    "elastic": "dist_vgg.elastic",
    "evaluate": "dist_vgg.evaluate",
    "predict": "dist_vgg.predict",
    "export": "dist_vgg.export",
    "serve": "dist_vgg.serve",
    "preview": "dist_vgg.preview",
    "summary": "dist_vgg.summary",
    "sweep": "dist_vgg.sweep",
    "replay": "dist_vgg.replay",
    "bench": "dist_vgg.bench",
    "chaos": "dist_vgg.chaos",
    "doctor": "dist_vgg.doctor",
}


def purpose(module: str) -> str:
    """What a command is for: the first line of its file, which is not imported for that."""
    place = Path(__file__).parents[1].joinpath(*module.split("."))
    path = place / "__main__.py" if place.is_dir() else place.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.splitlines()[0].partition(":")[0].rstrip(".")


def listing(words: list[str], program: str) -> int:
    """Print the commands; UserError for a word that is none."""
    parser = Parser(prog=program, description="Start a command, or list the commands.")
    parser.add_argument("command", nargs="?", help="which one; without it they are listed")
    wanted = parser.parse_args(words[:1]).command
    by_module = {module.rpartition(".")[2]: name for name, module in COMMANDS.items()}
    if wanted in by_module:
        raise UserError(
            f"{wanted} is called {by_module[wanted]} here: {program} {by_module[wanted]}"
        )
    if wanted:
        raise UserError(f"no command {wanted}{nearest(wanted, COMMANDS)}; see {program}")
    width = max(map(len, COMMANDS.values()))
    for name, module in COMMANDS.items():
        print(f"{name:<8}  python -m {module:<{width}}  {purpose(module)}")
    print(f"\n{program} COMMAND and the module behind it are one program; each has --help.")
    print("mpirun starts ranks: mpirun -n 8 python -m dist_vgg.train")
    return 0


def main(program: str = "dist-vgg") -> NoReturn:
    """Run the command that the command line names, as `python -m` runs its module."""
    words = sys.argv[1:]
    if not words or words[0] not in COMMANDS:
        sys.exit(0 if launched().rank else guarded("dist_vgg", lambda: listing(words, program)))
    for name, module in COMMANDS.items():
        command_line.spellings[f"python -m {module}"] = f"{program} {name}"
    del sys.argv[1]
    runpy.run_module(COMMANDS[words[0]], run_name="__main__", alter_sys=True)
    sys.exit()  # every command ends the process itself


if __name__ == "__main__":
    main("python -m dist_vgg")
