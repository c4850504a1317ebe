# Sourced by the scripts beside it: goes to the project's folder, makes .venv if it is missing,
# and installs the project there with the extras in $1, unless that was done already.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: '$PYTHON' is not Python 3.10 or newer; set PYTHON to one that is" >&2
    exit 2
fi
if [ ! -x .venv/bin/python ] && ! "$PYTHON" -m venv .venv; then
    rm -rf .venv
    echo "error: '$PYTHON -m venv' failed; on Debian and Ubuntu: apt install python3-venv" >&2
    exit 2
fi
# The stamp is pyproject.toml itself, so that a new dependency is installed.
stamp=.venv/installed-$1.toml
if ! cmp -s pyproject.toml "$stamp"; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
    cp pyproject.toml "$stamp"
fi
PATH=$PWD/.venv/bin:$PATH
