#!/bin/sh
# Makes .venv with the locked packages: `setup.sh run`, `setup.sh dev` for the tests' tools too,
# `setup.sh ray` for Ray as well, or `setup.sh deploy` for what checks deploy/.
# Does nothing when that is done already. PYTHON=... names the interpreter, TORCH_INDEX_URL=...
# the index that torch comes from.
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
TORCH=torch==2.13.0
venv=.venv
python=$venv/bin/python

die() { echo "$*" >&2; exit 1; }

# Version shims answer to a name and then fail, and Debian splits ensurepip off: only running tells.
usable() {
    "$1" -c 'import sys, ensurepip, venv
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        usable "$PYTHON" || die "PYTHON=$PYTHON does not run as Python 3.11, 3.12 or 3.13 with its venv module."
        echo "$PYTHON"
        return
    fi
    for name in python3.13 python3.12 python3.11 python3 python; do
        # Every folder of PATH, because a broken shim may stand before a working interpreter.
        saved_ifs=$IFS
        IFS=:
        for folder in $PATH; do
            IFS=$saved_ifs
            if [ -x "$folder/$name" ] && usable "$folder/$name"; then
                echo "$folder/$name"
                return
            fi
        done
        IFS=$saved_ifs
    done
    die "No Python 3.11, 3.12 or 3.13 with its venv module was found: install one (on Debian: apt install python3 python3-venv) or name it with PYTHON=/path/to/python3.12."
}

# Renamed first: a removal that is killed half-way must not leave what looks like an environment.
discard() {
    echo "setup: $1; starting .venv afresh"
    rm -rf "$venv.old"
    mv "$venv" "$venv.old"
}

key() { echo "$TORCH $(cat "$@" | cksum)"; }

done_already() { [ -f "$venv/.done-$1" ] && [ "$(cat "$venv/.done-$1")" = "$2" ]; }

# On a terminal pip shows its progress; elsewhere its output is kept for the case that it fails.
pip_install() {
    set -- "$python" -m pip install --disable-pip-version-check "$@"
    if [ -t 1 ]; then
        "$@" && return
    else
        "$@" --quiet >"$venv/pip.log" 2>&1 && return
        tail -n 10 "$venv/pip.log" >&2
    fi
    rm -f "$venv/.installing"
    die "pip could not install $step; its message is above."
}

make_venv() {
    found=$(find_python)
    echo "setup: $("$found" --version) at $found -> .venv"
    mkdir "$venv"
    : > "$venv/.installing"
    "$found" -m venv "$venv" || die "$found could not make a virtual environment in $here/.venv."
    echo "$here" > "$venv/.place"
}

# Started afresh: an environment that was moved (its scripts name the old folder), that no longer
# runs, or whose installation was killed (pip takes a half-written package for a whole one). One
# that someone else made, with uv for example, is kept and completed.
if [ -e "$venv" ]; then
    if [ -f "$venv/.installing" ]; then
        discard "the last installation did not finish"
    elif [ -f "$venv/.place" ] && [ "$(cat "$venv/.place")" != "$here" ]; then
        discard "this folder was moved"
    elif ! usable "$python"; then
        discard ".venv no longer runs"
    fi
fi
rm -rf "$venv.old"

run_key=$(key requirements.lock pyproject.toml)
if ! done_already run "$run_key"; then
    [ -e "$venv" ] || make_venv
    : > "$venv/.installing"
    "$python" -m pip --version >/dev/null 2>&1 || "$python" -m ensurepip >/dev/null
    step=torch
    echo "setup: 1/3 $TORCH"
    if [ -n "${TORCH_INDEX_URL:-}" ]; then
        pip_install "$TORCH" --index-url "$TORCH_INDEX_URL"
    else
        pip_install "$TORCH"
    fi
    step=requirements.lock
    echo "setup: 2/3 $(grep -c == requirements.lock) packages of requirements.lock"
    pip_install --no-deps -r requirements.lock
    step="this project"
    echo "setup: 3/3 this project"
    # The lock holds the build backend, so nothing is fetched unlocked to build with.
    pip_install --no-deps --no-build-isolation -e .
    rm -f "$venv/.installing"
    echo "$run_key" > "$venv/.done-run"
fi

more() { # more NAME WHAT [LOCK]: the packages of requirements-NAME.lock, and of another lock
    more_key=$(key "requirements-$1.lock" ${3:+"$3"})
    done_already "$1" "$more_key" && return
    : > "$venv/.installing"
    step=requirements-$1.lock
    echo "setup: $2"
    pip_install --no-deps -r "$step" ${3:+-r "$3"}
    rm -f "$venv/.installing"
    echo "$more_key" > "$venv/.done-$1"
}

case "${1:-run}" in
    dev) more dev "the tests' tools" ;;
    ray) more dev "the tests' tools"; more ray "Ray" ;;
    deploy)
        more dev "the tests' tools"
        more deploy "linters and schemas of deploy/" deploy/requirements.lock
        ;;
esac
