#!/usr/bin/env bash
# Prints results/item-optimizer.md: training steps with the dense and the sparse optimiser of the item table.
# usage: results/item-optimizer.sh DATA_PATH > results/item-optimizer.md
set -euo pipefail
source "$(dirname "$0")/show.sh"
echo '# Row-sparse optimiser'
echo
echo '`results/item-optimizer.sh DATA_PATH` makes this file. The data are synthetic, and all processes use one thread.'
echo 'The machine was busy with other programs; the two sides of a ratio take turns, step by step.'
show scale.py --interactions 2000000 --users 100000 --batches 50 --items 27000 --ratio_items 1000000
for items in 44000 87000 175000; do
    show scale.py --interactions 400000 --users 18000 --batches 20 --items "$items" --ratio_items "$items" --item_optimizer dense,sparse
done
show distributed.py --items 1000000 --steps 4 --item_optimizer dense,sparse
