#!/usr/bin/env bash
# Prints results/processes.md: runs of two processes beside the same run of one.
# usage: results/processes.sh DATA_PATH > results/processes.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Several processes'
echo
echo 'Made by `results/processes.sh DATA_PATH`; each command also takes `--data_path`. The same global batches, without'
echo 'dropout; the largest difference of any test metric.'
show repetitions.py --models DisentS2S --dataset office --repetitions 20 --keys '{learning_rate: 0.003,item_lr_multiplier: 3.0}'
# With the larger steps of the line above training carries even the last digit of a double on to some ranks here.
show repetitions.py --models DisentS2S --dataset ml-100k --repetitions 20 --keys '{learning_rate: 0.001,item_lr_multiplier: 1.0}'
for dataset in office ml-100k; do
    show repetitions.py --models TSSR,SASRec --precisions single --dataset "$dataset" --repetitions 20
done
