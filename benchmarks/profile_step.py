"""Time of the operations in a training step of DisentS2S, and the share of the peak matrix rate.

The script first measures the rate of products of square matrices. The flop counter of torch counts the
operations of the matrix products in a step, which uses the optimiser of the trainer. With one thread, times
are CPU times.
"""

from __future__ import annotations

import torch
from common import arguments, clock, config, table, train_step
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from recbole_disent.session import build_data, build_model, build_trainer


def matrix_rate(size: int = 1024, repeats: int = 20) -> float:
    """Return the floating-point operations per second of a product of two (size, size) matrices."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    for _ in range(3):
        a @ b
    now = clock()
    start = now()
    for _ in range(repeats):
        a @ b
    return repeats * 2 * size**3 / (now() - start)


def flop_counter() -> FlopCounterMode:
    """Return a counter that includes ``addmm_``, which torch's counter leaves out."""

    def addmm(_: torch.Size, a: torch.Size, b: torch.Size, **__: object) -> int:
        return 2 * a[0] * a[1] * b[1]

    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: addmm})


def main() -> None:
    args = arguments(__doc__, steps=10, n_intentions=4)
    rate = matrix_rate()
    data = build_data(config(args, "DisentS2S", n_intentions=args.n_intentions))
    net = build_model(data).train()
    optimizer = build_trainer(data, net).optimizer
    batches = iter(data.loaders[0])

    def steps(count: int) -> int:
        pairs = 0
        for _, batch in zip(range(count), batches, strict=False):
            train_step(net, optimizer, batch)
            pairs += len(batch)
        return pairs

    steps(3)
    now = clock()
    start = now()
    pairs = steps(args.steps)
    elapsed = (now() - start) / args.steps
    with flop_counter() as counter:
        steps(1)
    flops = counter.get_total_flops()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        steps(args.steps)
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_cpu_time_total)
    total = sum(e.self_cpu_time_total for e in events)
    print(f"{args.dataset}, length {args.max_length}, {args.threads} thread(s)")
    rows = [(e.key, 100 * e.self_cpu_time_total / total, e.count // args.steps) for e in events[:15]]
    table(rows, ("operation", "share of the step, %", "calls a step"))
    share = flops / elapsed / rate
    times = f"milliseconds={elapsed * 1e3:.1f} share_of_matrix_rate={share:.3f}"
    print(f"pairs_per_step={pairs / args.steps:.0f} {times}")


if __name__ == "__main__":
    main()
