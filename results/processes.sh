#!/usr/bin/env bash
# Prints results/processes.md: runs of two processes beside the same run of one.
# usage: results/processes.sh DATA_PATH > results/processes.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Several processes'
echo
echo 'Made by `results/processes.sh DATA_PATH`; each command also takes `--data_path`. The same global batches, without'
echo 'dropout; the largest difference of any test metric.'
for dataset in office ml-100k; do
    show repetitions.py --models DisentS2S --dataset "$dataset" --repetitions 20
    show repetitions.py --models TSSR,SASRec --precisions single --dataset "$dataset" --repetitions 20
done
