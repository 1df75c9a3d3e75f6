#!/usr/bin/env bash
# Prints results/benchmarks.md: RecBole and this package in turn, one thread.
# usage: results/benchmarks.sh DATA_PATH > results/benchmarks.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Benchmarks'
echo
echo 'Made by `results/benchmarks.sh DATA_PATH`; each command also takes `--data_path`. One thread; a ratio is of two'
echo 'measurements in one command. RecBole 1.2.1 runs its own data sets, loaders and trainer.'
show preparation.py --dataset ml-100k --max_length 50
show preparation.py --dataset ml-1m --max_length 200
show scale.py --interactions 20000000 --max_length 200
show evaluation.py --dataset toys --max_length 50 --mode pop100
show evaluation.py --dataset toys --max_length 50 --mode full --recbole_users 4096
show training.py --dataset toys --max_length 50 --ours SASRec --train_mode pairs --seconds 15
show training.py --dataset toys --max_length 50 --ours SASRec --seconds 15
