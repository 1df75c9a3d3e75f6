#!/usr/bin/env bash
# Prints results/peers.md: comparisons of RecTools, RecBole and this package with one thread.
# usage: results/peers.sh DATA_PATH > results/peers.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Comparison with other projects'
echo
echo '`results/peers.sh DATA_PATH` makes this file; the script adds `--data_path` to each command. All programs use one thread, and'
echo 'seconds are CPU seconds. `benchmarks/peers.py` says what is equal. Times of an epoch above the time of training come from the'
echo 'batches that were trained.'
show peers.py --dataset office --max_length 20 --epochs 10
show peers.py --dataset toys --max_length 50 --epochs 2 --peers RecTools-SASRec,RecBole-SASRec
show peers.py --dataset ml-1m --max_length 200 --epochs 3 --peers RecTools-SASRec
