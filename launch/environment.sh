# Sourced by the scripts beside it: goes to the project's folder, makes .venv if it is missing,
# and installs the project there with the extras in $1, unless that was done already.
# Sets `words` to the arguments behind that, in which --raw is meant from the caller's folder.

words=()
before=
for word in "${@:2}"; do
    case "$before $word" in
    "--raw "[!/-]*) word=$PWD/$word ;;
    *" --raw="[!/]*) word=--raw=$PWD/${word#--raw=} ;;
    esac
    words+=("$word")
    before=$word
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PYTHON=${PYTHON:-python3}
if ! "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    echo "error: '$PYTHON' is not Python 3.10 or newer; set PYTHON to one that is" >&2
    exit 2
fi
# Half a .venv, of a start that was interrupted, is made anew.
if ! .venv/bin/python -c 'import pip, sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null; then
    rm -rf .venv
    # Debian and Ubuntu keep a part of venv in a package of its own; virtualenv does without.
    if ! "$PYTHON" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        bootstrap=$(mktemp -d)
        "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$bootstrap" virtualenv
        PYTHONPATH=$bootstrap "$PYTHON" -m virtualenv --quiet .venv
        rm -rf "$bootstrap"
    fi
fi
# The stamp is pyproject.toml itself, so that a new dependency is installed.
stamp=.venv/installed-$1.toml
if ! cmp -s pyproject.toml "$stamp"; then
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$1]"
    cp pyproject.toml "$stamp"
fi
PATH=$PWD/.venv/bin:$PATH
