#!/usr/bin/env bash
# Run lint and every test, those under mpirun included. It makes .venv where there is none.
#
#   launch/test.sh                       everything
#   launch/test.sh tests/test_vgg.py     lint, and the tests of one file
#   launch/test.sh -k resume             lint, and the tests whose name has this word
#
# Arguments go to pytest; its own options are shown by python -m pytest --help.
#
# Environment variables:
#   PYTHON    the Python that makes .venv, 3.10 or newer (default: python3)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
make_environment mpich,digits,test "$@"

ruff format --check .
ruff check .
mypy
lint-imports
python -m pytest "$@"
