#!/usr/bin/env bash
# Prints results/costs.md: time and memory of DisentS2S and TSSR beside SASRec, and of single operations, with one thread.
# usage: results/costs.sh DATA_PATH > results/costs.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Cost of the models and of single operations'
echo
echo '`results/costs.sh DATA_PATH` makes this file; the script adds `--data_path` to the commands. The programs use one thread. tssr_cost.py'
echo 'measures each model in a separate process.'
show disents2s_cost.py --dataset toys --max_length 20
show tssr_cost.py --dataset office --max_length 20
show operations.py
