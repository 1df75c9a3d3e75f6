#!/usr/bin/env bash
# Prints results/benchmarks.md: comparisons of RecBole and this package with one thread.
# usage: results/benchmarks.sh DATA_PATH > results/benchmarks.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Benchmarks'
echo
echo '`results/benchmarks.sh DATA_PATH` makes this file; the script adds `--data_path` to each command. All programs use one thread. The'
echo 'two measurements of a ratio are made by the same command. RecBole 1.2.1 runs with its own data sets, loaders and trainer.'
show preparation.py --dataset ml-100k --max_length 50
show preparation.py --dataset ml-1m --max_length 200
show scale.py --interactions 20000000 --max_length 200
show evaluation.py --dataset toys --max_length 50 --mode pop100
show evaluation.py --dataset toys --max_length 50 --mode full --recbole_users 4096
show evaluation.py --dataset beauty --max_length 50 --mode full --recbole_users 2048
show recommend.py --dataset beauty --max_length 50
show training.py --dataset toys --max_length 50 --ours SASRec --train_mode pairs --seconds 15
show training.py --dataset toys --max_length 50 --ours SASRec --seconds 15
