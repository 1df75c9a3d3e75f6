#!/usr/bin/env bash
# Prints results/processes.md: runs of two processes beside the same run of one.
# usage: results/processes.sh DATA_PATH > results/processes.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Several processes'
echo
echo 'Made by `results/processes.sh DATA_PATH`; each command also takes `--data_path`. The same global batches, without'
echo 'dropout; the largest difference of any test metric.'
show repetitions.py --dataset office --repetitions 20
show repetitions.py --dataset ml-100k --repetitions 20
