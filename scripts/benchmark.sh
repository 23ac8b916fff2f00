#!/bin/sh
# Figures of docs/results.md: `sh scripts/benchmark.sh EPSILON FOLDER [OPTION ...]` runs the example with
# a throw-away ledger in FOLDER and prints the report's figures. Not a release: the cap is lifted.
set -eu
cd "$(dirname "$0")/.."
epsilon=$1 folder=$2
shift 2
mkdir -p "$folder"
[ -d "$folder/data" ] || cp -R data data.dvc "$folder/"
sed 's/^lifetime_epsilon: .*/lifetime_epsilon: 100.0/' population.yaml > "$folder/population.yaml"
.venv/bin/dptabimage release --root "$folder" --data "$folder/data" --epsilon "$epsilon" \
    --delta 1e-6 --n 4000 --seed 1 --json "$@" > "$folder/outcome.json"
.venv/bin/python - "$folder/outcome.json" <<'PYTHON'
import json
import sys
from pathlib import Path

outcome = json.loads(Path(sys.argv[1]).read_text())
report = json.loads(Path(outcome["report"]).with_suffix(".json").read_text())
names = (
    "epsilon delta auc_mean auc_floor auc_ceiling mae_mean mae_floor mae_ceiling tvd_1way tvd_2way "
    "tvd_3way tvd_sampling_floor fd fd_real kid precision recall esg"
).split()
print(json.dumps({name: report[name] for name in names}, indent=1))
print(json.dumps({k: outcome[k] for k in ("seconds", "seconds_in_all", "peak_memory_gb")}))
PYTHON
