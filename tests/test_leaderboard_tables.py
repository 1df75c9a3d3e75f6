"""Tests of tables of a report: columns, the share that a sweep keeps, and runs that stopped early."""

from __future__ import annotations

import pytest

from recbole_disent.leaderboard.collect import Collection, ResultGroup, Row
from recbole_disent.leaderboard.plots import _curve, _shares, make_plots
from recbole_disent.leaderboard.tables import (
    intentions_table,
    kept_table,
    main_table,
    search_budget_table,
    table_metrics,
)
from tests.test_leaderboard_collect import OPTIONS, result


def swept(value, **scores):
    """Return a row of a sweep with the NDCG of each seed; ``s1`` is seed 1."""
    results = [result(seed=int(s[1:]), test_result={"ndcg@10": score}) for s, score in scores.items()]
    return Row("SASRec", value, results)


def test_the_share_kept_is_one_of_the_value_with_the_same_seed():
    rows = [swept(0.0, s1=0.5, s2=0.25), swept(0.5, s1=0.25, s2=0.25), swept(0.9, s2=0.2, s3=0.4)]
    table = kept_table(ResultGroup("d", "full", "click_noise", rows), ["ndcg@10"])
    cells = [row[-1] for row in table.rows]
    assert [cell.value for cell in cells] == pytest.approx([1.0, 0.75, 0.8])
    assert [cell.text for cell in cells] == ["1.0000 ± 0.0000", "0.7500 ± 0.3536", "0.8000"]


@pytest.mark.parametrize(
    ("model", "kind", "epochs", "told"),
    [
        ("Pop", "TRADITIONAL", 1, ["1 of 1", "0 of 1"]),
        ("BPR", "GENERAL", 1, ["1 of 3", "1 of 1"]),
        ("BPR", "GENERAL", 3, ["3 of 3", "0 of 1"]),
    ],
)
def test_a_model_of_one_pass_never_stops_early(model, kind, epochs, told):
    rows = [Row(model, results=[result(model, kind, epochs_run=epochs)])]
    table = main_table(ResultGroup("d", "full", None, rows), ["ndcg@10"], OPTIONS)
    cells = dict(zip(table.head, table.rows[0], strict=True))
    assert [cells[name].text for name in ("epochs", "stopped early")] == told


def test_the_budget_says_when_a_training_stops():
    rows = [
        Row("Pop", results=[result("Pop", "TRADITIONAL")]),
        Row("BPR", results=[result("BPR", "GENERAL")]),
    ]
    table = search_budget_table(Collection([ResultGroup("d", "full", None, rows)], {}, None))
    cells = [dict(zip(table.head, row, strict=True)) for row in table.rows]
    told = [[row[name].text for name in ("most epochs", "early stop after")] for row in cells]
    assert told == [["1", "one pass"], ["3", "3 validations without improvement of NDCG@10"]]


def test_the_plot_of_the_share_kept_divides_by_clean_data_only():
    def row(label, value, score):
        return Row(label, value, [result(label, test_result={"ndcg@10": score})] if score else [])

    rows = [row("A", 0.5, 0.05), row("A", 0.0, 0.1), row("B", 0.0, None), row("B", 0.1, 0.1)]
    group = ResultGroup("d", "full", "click_noise", rows)
    shares = [(r.label, r.sweep, s.tolist()) for r, s in _shares(group, "ndcg@10")]
    assert shares == [("A", 0.5, [0.5]), ("A", 0.0, [1.0])]
    pytest.importorskip("matplotlib")
    curve, kept = make_plots(group, ["ndcg@10"], "Data h.")
    assert curve.source == "Data h."
    assert kept.source == "Data h. Left out, without a result at click_noise 0: B."
    assert kept.source in kept.svg
    (only,) = make_plots(ResultGroup("d", "full", "click_noise", rows[2:]), ["ndcg@10"], "Data h.")
    assert only.name == "d-full-curve"


def test_values_of_a_sweep_have_the_same_place_for_every_row():
    """B has no result at null: its numbers were drawn at 5 and 10, beside the places 0, 1 and 2 of A."""
    figure = pytest.importorskip("matplotlib.figure")

    def drawn(values, *left_out):
        rows = [
            Row(label, value, [] if (label, value) in left_out else [result(label)])
            for value in values
            for label in ("A", "B")
        ]
        group = ResultGroup("d", "full", "targets_per_window", rows)
        axes = figure.Figure().subplots()
        _curve(group, [(row, row.values("ndcg@10")) for row in group.filled], "ndcg@10")(axes)
        names = [text.get_text() for text in axes.get_xticklabels()]
        return names, {bars.get_label(): bars[0].get_xdata().tolist() for bars in axes.containers}

    names = ["None", "5", "10"]
    assert drawn([None, 5, 10], ("B", None)) == (names, {"A": [0, 1, 2], "B": [1, 2]})
    assert drawn([None, 5, 10], ("A", None), ("B", 5)) == (names, {"A": [1, 2], "B": [0, 2]})
    assert drawn([5, 10], ("B", 5))[1] == {"A": [5, 10], "B": [10]}


def test_the_table_of_intentions_says_which_part_they_were_measured_on():
    """A run on a split without a validation part measures them on the test part."""
    found = {"cosine": 0.5, "entropy": 1.0, "won": [0.5, 0.5]}
    group = ResultGroup("d", "full", None, [Row("A", results=[result("A", intentions=found)])])
    (note,) = intentions_table(group).notes
    assert note.startswith(
        "Measured on the validation part, or on the test part where the split has no valid"
    )


def test_a_metric_that_is_wanted_twice_is_one_column():
    group = ResultGroup("d", "full", None, [swept(None, s1=0.5)])
    assert table_metrics(group, ["NDCG@10", "ndcg@10"]) == ["ndcg@10"]
