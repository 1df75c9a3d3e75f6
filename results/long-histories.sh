#!/usr/bin/env bash
# Prints results/long-histories.md: time and memory by the number of interactions and the length of histories.
# usage: results/long-histories.sh DATA_PATH > results/long-histories.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Long histories'
echo
echo '`results/long-histories.sh DATA_PATH` makes this file; the script adds `--data_path` to each command. All programs use one thread.'
show linearity.py --events 10000 --users 200 --items 20000 --max_length 200 --pairs 20000
show linearity.py --dataset ml-1m --max_length 1000 --pairs 20000
