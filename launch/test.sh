#!/usr/bin/env bash
# Run lint and every test, those under mpirun included. Arguments go to pytest.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" mpich,digits,test

ruff format --check .
ruff check .
mypy
lint-imports
python -m pytest "$@"
