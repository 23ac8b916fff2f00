#!/bin/sh
# All that one GPU can show in nine minutes, without a network: `sh scripts/gpu_check.sh OUT [OPTION ...]`
# writes JSON files into OUT. The options are those of `python -m dagster_project.benchmark.gpu_check`;
# --quick only shows that everything runs, on a CPU too. PYTHON=... is another interpreter.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-}
if [ -z "$python" ]; then
    if [ -x .venv/bin/python ]; then python=.venv/bin/python; else python=python3; fi
fi
PYTHONPATH=. exec "$python" -m dagster_project.benchmark.gpu_check "$@"
