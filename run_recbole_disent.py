"""Train and evaluate one model: ``python run_recbole_disent.py --model=DisentS2S --dataset=ml-100k``."""

import sys

from recbole_disent.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
