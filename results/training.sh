#!/usr/bin/env bash
# Prints results/training.md: training speed and memory, one thread.
# usage: results/training.sh DATA_PATH > results/training.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Training speed'
echo
echo 'Made by `results/training.sh DATA_PATH`; each command also takes `--data_path`. One thread; a ratio is of two'
echo 'measurements in one command. RecBole 1.2.1 runs its own data sets, loaders and trainer.'
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
