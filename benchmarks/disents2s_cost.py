"""Time of a training target of DisentS2S with K = 1 and K = 4, relative to SASRec on whole sequences.

All models have a softmax over all items and about 512 targets in a batch. With one thread, times are CPU
time. The models are measured in turn, three times, and the smallest time of each counts, because other
programs have disturbed it least. The last lines are ``K=1: ...`` and ``K=4: ...``, the ratios to SASRec.
"""

from __future__ import annotations

from typing import Any

from common import arguments, config, seconds_of_a_target, table

from recbole_disent.session import build_data, build_model, build_trainer

_ROUNDS = 3
# Name of a row -> model and keys.
_ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "SASRec": ("SASRec", {"train_mode": "sequences", "train_batch_size": 512, "negatives": "all"}),
    "K=1": ("DisentS2S", {"n_intentions": 1, "negatives": "all"}),
    "K=4": ("DisentS2S", {"n_intentions": 4, "negatives": "all"}),
    "K=4 with the future": (
        "DisentS2S",
        {"n_intentions": 4, "negatives": "all", "seq2seq_variant": "latent"},
    ),
}


def main() -> None:
    args = arguments(__doc__ or "", seconds=8.0)
    runs = {}
    for name, (model, keys) in _ROWS.items():
        data = build_data(config(args, model, **keys))
        net = build_model(data)
        runs[name] = (net, build_trainer(data, net).optimizer, data.loaders[0])
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            best[name] = min(best[name], seconds_of_a_target(*run, args.seconds)[0])
    print(f"{args.dataset}, length {args.max_length}, {args.threads} thread(s)")
    base = best["SASRec"]
    table([(name, 1e6 * each, each / base) for name, each in best.items()], ("", "µs a target", "ratio"))
    for name in ("K=1", "K=4"):
        print(f"{name}: {best[name] / base:.2f}")


if __name__ == "__main__":
    main()
