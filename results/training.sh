#!/usr/bin/env bash
# Prints results/training.md: speed and memory of training with one thread.
# usage: results/training.sh DATA_PATH > results/training.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Training speed'
echo
echo '`results/training.sh DATA_PATH` makes this file; the script adds `--data_path` to each command. All programs use one thread. The'
echo 'two measurements of a ratio are made by the same command. RecBole 1.2.1 runs with its own data sets, loaders and trainer.'
show training.py --dataset toys --max_length 50 --seconds 15
show training.py --dataset toys --max_length 50 --seconds 15 --anomaly 0
show training.py --dataset beauty --max_length 50 --seconds 15
show training.py --dataset beauty --max_length 50 --seconds 15 --anomaly 0
show training.py --dataset ml-1m --max_length 200 --seconds 15
show training.py --dataset beauty --max_length 50 --model pairs --seconds 15
show training.py --dataset ml-1m --max_length 200 --model pairs --seconds 15
show linearity.py --dataset ml-1m --max_length 200
show profile_step.py --dataset beauty --max_length 50
show distributed.py --dataset ml-100k --max_length 50 --batch 1024
