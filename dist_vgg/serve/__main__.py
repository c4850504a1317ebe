"""Serve a trained network: a page to draw digits on, and predictions in JSON.

python -m dist_vgg.serve
python -m dist_vgg.serve runs/NAME --port 8080
curl --data-binary @digit.png http://127.0.0.1:8000/predict
"""

import signal
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from dist_vgg.base.command_line import Parser, run_alone, tell
from dist_vgg.base.errors import KILLED_BY, UserError
from dist_vgg.formats.html import page_facts, page_files
from dist_vgg.formats.trained import SHIPPED, load_network
from dist_vgg.kernels.sets import AUTO, CHOICES, HELP
from dist_vgg.predict import load_known, summary
from dist_vgg.serve.answers import Answers


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    options = own_parser().parse_args(argv)
    if not 0 <= options.port <= 65535:
        raise UserError(f"--port {options.port} must lie between 0 and 65535")
    check_installed()
    # Only now, since they import what may be missing.
    from dist_vgg.serve.app import make_app
    from dist_vgg.serve.running import listening, local_names, serve, url_of

    with listening(options.host, options.port) as listener:
        weights = load_known(options.weights)
        net = load_network(weights, options.kernels)
        answers = Answers(weights, net)
        answers.warm_up()
        app = make_app(answers, page_files(page_facts(weights, net)), local_names(listener))
        tell(f"dist_vgg.serve: weights: {summary(options.weights, weights)}")
        print(f"{url_of(listener)}   (Ctrl-C ends it)", flush=True)
        number = serve(app, listener)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    return KILLED_BY + number


def own_parser() -> Parser:
    """The command line of `python -m dist_vgg.serve`."""
    parser = Parser(prog="python -m dist_vgg.serve", description=__doc__.split("\n")[0])
    parser.add_argument(
        "weights", metavar="WEIGHTS", type=Path, nargs="?", default=SHIPPED,
        help="a run's folder, or a file of weights (default: those that are installed with the "
        "package)",
    )  # fmt: skip
    parser.add_argument(
        "--host", default="127.0.0.1",
        help="the address to listen on; 0.0.0.0 serves every machine that reaches this one "
        "(default: 127.0.0.1, this machine only)",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument("--kernels", choices=CHOICES, default=AUTO, help=f"{HELP} (default: auto)")
    return parser


def check_installed() -> None:
    """Raise UserError where a package of the extra is missing."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise UserError(f"{package} is missing; install it with: pip install 'dist_vgg[serve]'")


if __name__ == "__main__":
    run_alone("dist_vgg.serve", main)
