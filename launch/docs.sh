#!/usr/bin/env bash
# Build the docs site and check its links; a warning is an error. It makes .venv where there is none.
#
#   launch/docs.sh    writes docs/_build/html/index.html
#
# Links within the site are always checked, those to other sites where there is a network. Tables of
# options, commands and results are generated anew from the program and from docs/results/.
#
# Environment variables:
#   PYTHON    the Python that makes .venv, 3.10 or newer (default: python3)
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

(($# == 0)) || refuse "docs.sh takes no arguments; see launch/docs.sh --help"
make_environment mpich,docs,fast

# From nothing, since pages of code that has gone would stay, with links that lead nowhere.
rm -rf docs/_build
python -m sphinx --quiet --fail-on-warning --keep-going --nitpicky --jobs auto \
    --doctree-dir docs/_build/doctrees docs docs/_build/html
python docs/generate/links.py docs/_build/html
echo "open $PWD/docs/_build/html/index.html"
