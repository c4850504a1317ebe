#!/usr/bin/env bash
# What the scripts beside this file share; it is sourced by them and does nothing by itself.
#
# A script that sources it answers --help and -h with its own head, as this file does here, and
# ends. make_environment EXTRAS ARGUMENTS goes to the project's folder, makes .venv there if it is
# missing, and installs the project with these extras, unless that was done already. It sets
# `words` to the arguments, in which --raw is meant from the caller's folder.
#
# Environment variables:
#   PYTHON    the Python that makes .venv, 3.10 or newer (default: python3)

for word in "$@"; do
    if [[ $word == --help || $word == -h ]]; then
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
    fi
done

# A mistake that the user can mend ends the script with one line.
refuse() {
    echo "error: $*" >&2
    exit 2
}

make_environment() {
    local extras=$1 before='' word stamp bootstrap
    words=()
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
        refuse "'$PYTHON' is not Python 3.10 or newer; set PYTHON to one that is"
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
    stamp=.venv/installed-$extras.toml
    if ! cmp -s pyproject.toml "$stamp"; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extras]"
        cp pyproject.toml "$stamp"
    fi
    PATH=$PWD/.venv/bin:$PATH
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
    refuse "environment.sh does nothing by itself; start quickstart.sh, recipe.sh, test.sh or docs.sh"
fi
