"""Property tests of literals, search spaces, atomic files and atomically written files."""

from __future__ import annotations

import ast
import json
import math
import string

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recbole_disent.config.config import Config
from recbole_disent.config.literals import key_values, literal
from recbole_disent.config.search_space import grid, read_space, sample
from recbole_disent.data.atomic_files import check_header
from recbole_disent.data.loading import create_dataset
from recbole_disent.errors import UserError
from recbole_disent.files import write_atomically, write_text
from tests.property_settings import QUICK

# -- literals --------------------------------------------------------------------------

NUMBERS = st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(VALUES)
def test_a_value_comes_back_from_its_text(value):
    assert literal(repr(value)) == value
    assert type(literal(repr(value))) is type(value)


@QUICK
@given(st.text(max_size=30))
@example("__import__('os').getcwd()")
@example("(" * 200)
@example("lambda: 0")
@example("[1, 2")
def test_any_text_is_a_literal_or_stays_itself(text):
    found = literal(text)
    words = {"true": True, "false": False, "none": None, "null": None, "~": None}
    plain = text.strip().lower()
    if plain in words and found != text:
        assert found is words[plain]
    elif not (isinstance(found, str) and found == text):
        assert repr(ast.literal_eval(text)) == repr(found)


WORDS = st.text(string.ascii_lowercase + "_", min_size=1, max_size=6)


@QUICK
@given(st.dictionaries(WORDS, VALUES, max_size=5))
def test_words_of_a_command_line_are_keys_and_values(keys):
    assert key_values([f"--{key}={value!r}" for key, value in keys.items()]) == keys


@QUICK
@given(st.text(max_size=12))
def test_any_other_word_is_refused_with_one_sentence(word):
    key, equals, _ = word[2:].partition("=")
    if word.startswith("--") and equals and key:
        return
    with pytest.raises(UserError, match="expected --key=value"):
        key_values([word])


# -- search spaces ---------------------------------------------------------------------

COLUMNS = st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)
BOUNDS = st.tuples(st.floats(-50, 50), st.floats(0.1, 50)).map(lambda pair: (pair[0], pair[0] + pair[1]))
LINES = st.one_of(
    st.lists(
        st.booleans() | st.integers(-99, 99) | WORDS.filter(lambda w: w != "none"), min_size=1, max_size=4
    ).map(lambda values: ("choice", repr(values))),
    BOUNDS.map(lambda pair: ("uniform", f"{pair[0]!r},{pair[1]!r}")),
    BOUNDS.map(lambda pair: ("loguniform", f"{pair[0]!r}, {pair[1]!r}")),
    st.tuples(st.integers(-20, 20), st.integers(1, 30), st.integers(1, 7)).map(
        lambda t: ("quniform", f"{t[0]},{t[0] + t[1]},{t[2]}")
    ),
)


@QUICK
@given(st.dictionaries(WORDS, LINES, min_size=1, max_size=4), st.integers(0, 2**31))
def test_drawn_values_are_inside_their_space(tmp_path, lines, seed):
    file = tmp_path / "space.hyper"
    file.write_text(
        "# a comment\n\n" + "".join(f"{k} {kind} {text}  # {k}\n" for k, (kind, text) in lines.items())
    )
    space = read_space(file)
    assert list(space) == list(lines)
    for found in (sample(space, np.random.default_rng(seed)) for _ in range(3)):
        assert list(found) == list(lines)
        for key, value in found.items():
            kind, text = lines[key]
            numbers = ast.literal_eval(text)
            if kind == "choice":
                assert value in numbers
            elif kind == "quniform":
                low, high, step = numbers
                assert type(value) is int
                assert value % step == 0
                assert low - step / 2 <= value <= high + step / 2
                assert value in space[key].grid()
            else:
                inner = math.log(value) if kind == "loguniform" else value
                assert numbers[0] - 1e-9 <= inner <= numbers[1] + 1e-9
    assert sample(space, np.random.default_rng(seed)) == sample(space, np.random.default_rng(seed))


@QUICK
@given(
    st.dictionaries(
        WORDS, st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
    )
)
def test_a_grid_is_every_combination_once(tmp_path, columns):
    file = tmp_path / "space.hyper"
    file.write_text("".join(f"{key} choice {values}\n" for key, values in columns.items()))
    found = [tuple(setting.values()) for setting in grid(read_space(file))]
    assert len(set(found)) == len(found) == math.prod(map(len, columns.values()))
    assert all(
        value in values for setting in found for value, values in zip(setting, columns.values(), strict=True)
    )


def message_of(function):
    """Return the message of a UserError, or None."""
    try:
        assert function()
    except UserError as error:
        return str(error)
    return None


@QUICK
@given(st.text(max_size=30))
@example("n_layers choice __import__('os')")
@example("n_layers choice []")
@example("x uniform 1,nan")
def test_any_line_is_a_space_or_one_sentence_with_its_place(tmp_path, text):
    file = tmp_path / "space.hyper"
    file.write_bytes(text.encode("utf-8", "replace"))
    message = message_of(lambda: read_space(file))
    assert message is None or (str(file) in message and "\n" not in message)


# -- atomic files ----------------------------------------------------------------------

TOKENS = st.text(string.ascii_letters + string.digits + "-_:.", min_size=1, max_size=6).map(lambda t: "t" + t)
ROWS = st.lists(st.tuples(TOKENS, TOKENS, st.floats(-1e12, 1e12)), min_size=1, max_size=12)
HEADER = "user_id:token\titem_id:token\ttimestamp:float"


def data_set(folder, rows):
    """Return the data set of a file with these rows."""
    lines = [HEADER, *("\t".join(map(str, row)) for row in rows)]
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "mine.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return create_dataset(Config("BPR", "mine", config_dict={"data_path": str(folder)}))


@settings(QUICK, max_examples=30)
@given(ROWS)
def test_rows_come_back_from_an_atomic_file(tmp_path, rows):
    found = data_set(tmp_path, rows)
    events = found.inter_feat
    for field, side in (("user_id", 0), ("item_id", 1)):
        assert found.id2token(field, events[field].to_numpy()).tolist() == [row[side] for row in rows]
    assert events["timestamp"].to_numpy() == pytest.approx([row[2] for row in rows], rel=1e-6)


@settings(QUICK, max_examples=30)
@given(ROWS, st.data())
def test_the_line_with_a_fault_is_named(tmp_path, rows, data):
    place = data.draw(st.integers(0, len(rows) - 1))
    rows[place] = (*rows[place][:2], "yesterday")
    with pytest.raises(UserError) as error:
        data_set(tmp_path, rows)
    assert f"line {place + 2}: timestamp: got 'yesterday', expected a number" in str(error.value)


@QUICK
@given(st.text(string.printable, max_size=30))
@example("")
@example("user_id:token\titem_id")
@example("user_id:tokens")
def test_any_first_line_is_a_header_or_one_sentence(tmp_path, text):
    file = tmp_path / "mine.inter"
    file.write_text(text, encoding="utf-8")
    found = []
    message = message_of(lambda: found.extend(check_header(str(file), "\t", "utf-8")) or found)
    if message is not None:
        assert f"{file}, line 1: " in message
    else:
        kinds = ("token", "token_seq", "float", "float_seq")
        assert all(field and kind.value in kinds for field, kind in found)


# -- files that are complete or not there ----------------------------------------------


@QUICK
@given(st.binary(max_size=50), st.lists(st.binary(max_size=50), max_size=3), st.booleans())
def test_a_file_is_the_old_one_or_the_new_one(tmp_path, old, parts, fails):
    path = tmp_path / "some" / "file.bin"
    with write_atomically(path) as file:
        file.write(old)

    def write():
        with write_atomically(path) as file:
            for part in parts:
                file.write(part)
                assert path.read_bytes() == old  # nobody sees half of it
            if fails:
                raise KeyboardInterrupt

    if fails:
        with pytest.raises(KeyboardInterrupt):
            write()
    else:
        write()
    assert path.read_bytes() == (old if fails else b"".join(parts))
    assert [p.name for p in path.parent.iterdir()] == ["file.bin"]


@QUICK
@given(st.text(max_size=40))
def test_a_text_comes_back(tmp_path, text):
    text = json.loads(json.dumps(text))
    write_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes().decode("utf-8") == text
