#!/usr/bin/env bash
# Prints results/tssr-cost.md: what TSSR costs beside SASRec, one thread.
# usage: results/tssr-cost.sh DATA_PATH > results/tssr-cost.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Cost of TSSR'
echo
echo 'Made by `results/tssr-cost.sh DATA_PATH`; the command also takes `--data_path`. One thread; each model in a process of'
echo 'its own, in one run.'
show tssr_cost.py --dataset office --max_length 20
