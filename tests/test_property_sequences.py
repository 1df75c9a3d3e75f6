"""Property tests of windows, jagged batches, histories and splits."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_disent.data import splits
from recbole_disent.data.click_noise import replace_clicks
from recbole_disent.data.ordering import time_order
from recbole_disent.data.store import SequenceStore
from recbole_disent.loaders.windows import UserLoader, WindowLoader
from recbole_disent.ops.jagged import JaggedBatch
from tests.property_settings import QUICK

# -- windows ---------------------------------------------------------------------------

LENGTHS = st.lists(st.integers(0, 30), min_size=1, max_size=6)


@st.composite
def window_cases(draw):
    """Draw lengths of training sequences, numbers of held-out events, and keys of the loader."""
    length = draw(st.integers(1, 9))
    stride = draw(st.none() | st.integers(1, length))
    passes = draw(st.integers(1, min(3, stride or length)))
    return {
        "trained": draw(LENGTHS.filter(lambda lengths: max(lengths) >= 2)),
        "held_out": draw(st.integers(0, 2)),
        "MAX_ITEM_LIST_LENGTH": length,
        "targets_per_window": stride,
        "passes_per_window": passes,
        "train_windows": draw(st.sampled_from(["all", "last"])),
        "train_batch_size": draw(st.integers(2, 40)),
        "seed": draw(st.integers(0, 2**31)),
    }


def loader_of(kind, case):
    """Return a loader of sequences in which item i is event i - 1 of the store."""
    lengths = np.array(case["trained"]) + case["held_out"]
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    items = torch.arange(1, len(users) + 1)
    store = SequenceStore(users, {"item": items}, "item", len(lengths) + 1)
    ends = store.offsets[:-1].clone()
    ends[1:] += torch.tensor(case["trained"])
    loader = kind.__new__(kind)
    loader.config = defaultdict(lambda: None, case)
    loader._dataset = SimpleNamespace(
        store=store, train_end=ends, max_item_list_len=case["MAX_ITEM_LIST_LENGTH"]
    )
    loader.neg_sample_args = {"distribution": "none"}
    loader.generator = torch.Generator().manual_seed(case["seed"])
    loader.set_batch_size = lambda size: None
    loader._init_batch_size_and_step()
    return loader, store, ends


@QUICK
@given(window_cases())
def test_each_target_is_trained_once_an_epoch_with_the_past_and_the_future_that_it_has(case):
    length = case["MAX_ITEM_LIST_LENGTH"]
    stride = case["targets_per_window"] or length
    loader, store, ends = loader_of(WindowLoader, case)
    begins = store.offsets[:-1]
    for _ in range(2):
        found = Counter()
        for batch in loader:
            starts = batch.lengths.cumsum(0) - batch.lengths
            assert torch.equal(batch.lengths, batch.lengths.sort().values)
            assert len(batch) == len(batch.pairs()[0])
            for window, nth, last in torch.stack(batch.pairs(), 1).tolist():
                user = int(batch.users[window])
                begin, end = int(begins[user]), int(ends[user])
                first = int(starts[window])
                events = batch.items[first : first + int(batch.lengths[window])] - 1
                past, target = batch.items[first : last + 1] - 1, int(batch.items[last + 1]) - 1
                assert torch.equal(events, torch.arange(int(events[0]), int(events[-1]) + 1))
                assert begin <= int(past[0]) <= int(past[-1]) == target - 1 < end - 1
                assert int(events[-1]) < end  # held-out events are in no window
                found[target] += 1
                assert last == first + int(batch.before[window]) + nth
                if end - begin - 1 <= length:  # a short sequence: all there is
                    whole = case["train_windows"] == "all" or end - begin - 1 <= stride
                    assert int(events[-1]) == end - 1
                    assert not whole or int(events[0]) == begin
                if case["train_windows"] == "all":
                    assert len(past) >= min(target - begin, length - stride + 1)
                    assert (
                        end - target >= int(events[-1]) - target + 1 >= min(end - target, length - stride + 1)
                    )
        wanted = set()
        for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
            first = begin if case["train_windows"] == "all" else max(begin, end - 1 - stride)
            wanted |= set(range(first + 1, end))
        assert found == Counter(wanted)


@QUICK
@given(window_cases())
def test_windows_of_users_are_without_margins_and_no_longer_than_allowed(case):
    case = {**case, "targets_per_window": None, "passes_per_window": None}
    loader, _, _ = loader_of(UserLoader, case)
    for batch in loader:
        assert not batch.before.any()
        assert not batch.after.any()
        assert len(batch.lengths) <= case["train_batch_size"]
        assert int(batch.lengths.min()) >= 2
        assert int(batch.lengths.max()) <= case["MAX_ITEM_LIST_LENGTH"] + 1


# -- jagged batches --------------------------------------------------------------------


def running_mean(x):
    """Apply a causal function to padded sequences: float (b, l, D) -> (b, l, D)."""
    return x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]


@QUICK
@given(st.lists(st.integers(1, 20), min_size=1, max_size=12).map(sorted), st.integers(1, 3))
def test_a_jagged_batch_is_each_sequence_by_itself(lengths, width):
    torch.manual_seed(sum(lengths))
    tokens = torch.randn(sum(lengths), width, dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(tokens).detach()
    jagged = JaggedBatch(torch.tensor(lengths))
    assert jagged.position.tolist() == [i for length in lengths for i in range(length)]
    found = jagged.map(running_mean, tokens)
    expected = torch.cat([running_mean(part[None])[0] for part in tokens.split(lengths)])
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad((value * weights).sum(), tokens)[0] for value in (found, expected)]
    torch.testing.assert_close(*gradients)


# -- histories -------------------------------------------------------------------------


@QUICK
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(1, 7), st.data())
def test_histories_and_futures_are_slices_of_the_user_s_events(lengths, width, data):
    users = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    items = torch.arange(101, 101 + len(users))
    store = SequenceStore(users, {"item": items}, "item", len(lengths) + 1)
    ends = torch.tensor(data.draw(st.lists(st.integers(0, len(users) - 1), min_size=1, max_size=5)))
    known = store.history_lengths(ends, width)
    pasts = store.histories("item", ends, known, width)
    stops = store.offsets[torch.from_numpy(users)[ends] + 1]
    futures, counts = store.futures("item", ends, stops, width)
    for row, end in enumerate(ends.tolist()):
        begin, stop = int(store.starts(ends)[row]), int(stops[row])
        past = items[max(begin, end - width) : end].tolist()
        future = items[end : min(stop, end + width)].tolist()[::-1]
        assert pasts[row].tolist() == past + [0] * (width - len(past))
        assert futures[row].tolist() == future + [0] * (width - len(future))
        assert (int(known[row]), int(counts[row])) == (len(past), len(future))


@QUICK
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=30))
def test_the_order_of_events_is_that_of_a_stable_sort(events):
    users, times = (np.array([e[side] for e in events], dtype=np.int64) for side in (0, 1))
    assert time_order(users, times).tolist() == sorted(range(len(events)), key=lambda i: events[i])


# -- splits ----------------------------------------------------------------------------

KEYS = st.lists(st.integers(0, 5), max_size=40).map(lambda keys: np.array(keys, dtype=np.int64))


def groups_of(keys):
    """Return key -> rows, in the order of the first row of each key."""
    found = {}
    for row, key in enumerate(keys.tolist()):
        found.setdefault(key, []).append(row)
    return found


@QUICK
@given(KEYS, st.sampled_from(["valid_and_test", "valid_only", "test_only"]), st.integers(1, 3))
def test_leave_one_out_holds_out_the_last_rows_of_each_group(keys, mode, kept):
    parts = {"train": [], "valid": [], "test": []}
    names = {"valid_and_test": ["valid", "test"], "valid_only": ["valid"], "test_only": ["test"]}[mode]
    for rows in groups_of(keys).values():
        for name in names[::-1]:
            if len(rows) > kept:
                parts[name].append(rows[-1])
                rows = rows[:-1]
        parts["train"] += rows
    found = splits.leave_one_out(keys, mode, kept)
    assert [part.tolist() for part in found] == list(parts.values())


@QUICK
@given(KEYS, st.lists(st.floats(0, 1), min_size=2, max_size=2).map(sorted), st.booleans())
def test_a_split_by_ratio_cuts_each_group_at_its_places(keys, shares, grouped):
    cuts_of = lambda size: [round(share * size) for share in shares]  # noqa: E731
    expected = [[], [], []]
    rows_of = groups_of(keys).values() if grouped else [list(range(len(keys)))]
    for rows in rows_of:
        first, second = cuts_of(len(rows))
        for part, chunk in zip(expected, (rows[:first], rows[first:second], rows[second:]), strict=True):
            part += chunk
    found = splits.by_ratio(keys if grouped else None, len(keys), cuts_of, 3)
    assert [part.tolist() for part in found] == expected


# -- click noise -----------------------------------------------------------------------


@QUICK
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=40), st.floats(0, 1), st.floats(0, 1), st.integers(0, 99)
)
def test_noise_replaces_the_wanted_number_of_clicks_and_nested_sets(items, share, more, seed):
    items = np.array(items)
    share, more = sorted((share, more))
    fewer, all_of = (replace_clicks(items, 7, s, seed) for s in (share, more))
    for found, wanted in ((fewer, share), (all_of, more)):
        assert (found != items).sum() == round(wanted * len(items))
        assert found.min() >= 1
        assert found.max() <= 6
    assert set(np.flatnonzero(fewer != items)) <= set(np.flatnonzero(all_of != items))


def test_an_unknown_split_is_refused():
    with pytest.raises(NotImplementedError, match="got mode 'last', expected valid_and_test"):
        splits.leave_one_out(np.zeros(3, dtype=np.int64), "last", 1)
