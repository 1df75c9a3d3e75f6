#!/usr/bin/env bash
# Prints results/tssr-cost.md: time and memory of TSSR and SASRec with one thread.
# usage: results/tssr-cost.sh DATA_PATH > results/tssr-cost.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Cost of TSSR'
echo
echo '`results/tssr-cost.sh DATA_PATH` makes this file; the script adds `--data_path` to the command. The program uses one thread'
echo 'and measures each model in a separate process.'
show tssr_cost.py --dataset office --max_length 20
