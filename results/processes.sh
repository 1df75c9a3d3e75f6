#!/usr/bin/env bash
# Prints results/processes.md: differences between runs of two processes and the same run of one process.
# usage: results/processes.sh DATA_PATH > results/processes.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Several processes'
echo
echo '`results/processes.sh DATA_PATH` makes this file; the script adds `--data_path` to each command. All runs train on the same'
echo 'global batches, without dropout. The last column is the largest difference of a test metric over all runs.'
show repetitions.py --models DisentS2S --dataset office --repetitions 20 --keys '{learning_rate: 0.003,item_lr_multiplier: 3.0}'
# On ml-100k, the larger step sizes of the command above amplify rounding errors of doubles until ranks change.
show repetitions.py --models DisentS2S --dataset ml-100k --repetitions 20 --keys '{learning_rate: 0.001,item_lr_multiplier: 1.0}'
for dataset in office ml-100k; do
    show repetitions.py --models TSSR,SASRec --precisions single --dataset "$dataset" --repetitions 20
done
