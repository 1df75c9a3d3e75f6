"""Tests of the named data sets of the papers, with artificial lines below the real headers."""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from recbole_disent.config import dataset_table
from recbole_disent.config.config import Config
from recbole_disent.content.build import build_content
from recbole_disent.data import download as downloads
from recbole_disent.data.download import download
from recbole_disent.data.loading import create_dataset, load_parts
from recbole_disent.data.statistics_check import count, difference
from recbole_disent.errors import UserError
from recbole_disent.leaderboard.plan import make_plan
from recbole_disent.registry import recbole_folder
from tests.conftest import write_inter, write_items

FOLDER = Path(__file__).resolve().parent.parent / "dataset_configs"
RATINGS = "user_id:token item_id:token rating:float timestamp:float"
ORDER = "user_id:token item_id:token timestamp:float"
STEAM = (
    "user_id:token play_hours:float products:token product_id:token page_order:float timestamp:float "
    "early_access:token page:float found_funny:token compensation:token"
)
GAMES = (
    "app_name:token developer:token early_access:token genres:token_seq id:token metascore:float price:float "
    "publisher:token timestamp:float sentiment:token specs:token_seq tags:token_seq title:token"
)
YELP = (
    "review_id:token user_id:token business_id:token stars:float useful:float funny:float "
    "cool:float date:float"
)
BUSINESSES = (
    "business_id:token item_name:token_seq address:token_seq city:token_seq state:token postal_code:token "
    "latitude:float longitude:float item_stars:float item_review_count:float is_open:float "
    "categories:token_seq"
)
ATTRIBUTES = "item_id:token attributes:token_seq"
# The order of these columns differs from shop to shop.
PRODUCTS = (
    "item_id:token title:token sales_type:token sales_rank:float categories:token_seq price:float brand:token"
)
CLOTHES = (
    "item_id:token prod_name:token_seq product_type_name:token_seq product_group_name:token_seq "
    "colour_group_name:token_seq detail_desc:token_seq"
)
# name -> headers of .inter and .item, maximum length, whether the 5-core is taken.
HEADERS: dict[str, tuple[str, str, int, bool]] = {
    "beauty5": (ORDER, ATTRIBUTES, 50, False),
    "sports": (ORDER, ATTRIBUTES, 50, False),
    **{
        f"amazon-{shop}": (RATINGS, PRODUCTS, 50, True)
        for shop in ("beauty", "toys-games", "office-products", "sports-outdoors")
    },
    "ml-20m": (
        RATINGS, "item_id:token movie_name:token_seq release_year:token type:token_seq", 200, False,
    ),
    "steam-not-merged": (STEAM, GAMES, 50, True),
    "steam-merged": (f"{STEAM} times:float", GAMES, 50, True),
    **{f"yelp-{year}": (YELP, BUSINESSES, 10, True) for year in (2018, 2020, 2021, 2022)},
    "hm": (ORDER, CLOTHES, 10, True),
}  # fmt: skip
USERS, ITEMS = 7, 6


def write_stub(folder: Path, name: str, config_name: str | None = None) -> None:
    """Return events of seven users with all items, and of one user and one item with a single event."""
    inter, item, _, _ = HEADERS[config_name or name]
    pairs = [(f"u{u}", f"i{(u + t) % ITEMS}", t) for u in range(USERS) for t in range(ITEMS)]
    pairs.append(("rare", "i0", 0))
    pairs.append(("u0", "seldom", ITEMS))
    ids = ("item_id", "product_id", "business_id", "id")

    def cell(column: str, user: str, it: str, time: int) -> Any:
        field, kind = column.split(":")
        if field == "user_id":
            return user
        if field in ids:
            return it
        if field in ("timestamp", "date"):
            return 1_500_000_000 + 86_400 * time
        return time if kind == "float" else f"{field}{it}"

    rows = [tuple(cell(column, *pair) for column in inter.split()) for pair in pairs]
    write_inter(folder, name, rows, inter.replace(" ", "\t"))
    items = [f"i{n}" for n in range(ITEMS)] + ["seldom"]
    lines = [tuple(cell(column, "", it, n) for column in item.split()) for n, it in enumerate(items)]
    write_items(folder, name, lines, item.replace(" ", "\t"))


def config_of(name: str, folder: Path, model: str = "DisentS2S", **keys: Any) -> Config:
    return Config(model, name, config_dict={"data_path": str(folder), "topk": [1, 5], **keys})


@pytest.fixture
def stub_statistics(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return a table of data sets with ``amazon-beauty`` only, which a test can fill."""
    entry: dict[str, Any] = {}
    monkeypatch.setattr(dataset_table, "_table", lambda: {"amazon-beauty": entry})
    return entry


# -- files -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADERS)
def test_a_file_fits_the_real_headers(name, tmp_path):
    _, _, length, core = HEADERS[name]
    write_stub(tmp_path, name)
    config = config_of(name, tmp_path)
    dataset = create_dataset(config)
    assert config["MAX_ITEM_LIST_LENGTH"] == length
    loaded = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["load_col"]["inter"]
    assert loaded == [config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], config["TIME_FIELD"]]
    assert set(loaded) <= set(dataset.inter_feat.columns)
    assert not set(dataset.inter_feat.columns) & {"rating", "stars", "play_hours", "page"}
    found = count(dataset)
    # The user and the item with one event each are filtered where the papers filter.
    extra = 0 if core else 1
    assert found == {
        "users": USERS + extra, "items": ITEMS + extra, "interactions": USERS * ITEMS + 2 * extra,
    }  # fmt: skip


@pytest.mark.parametrize("name", HEADERS)
def test_content_comes_from_columns_of_the_item_file(name, tmp_path, caplog):
    write_stub(tmp_path, name)
    config = config_of(name, tmp_path, "TSSR", content_dim=4)
    columns = {column.split(":")[0] for column in HEADERS[name][1].split()}
    assert set(config["content_fields"]) <= columns
    dataset, _ = load_parts(config)
    with caplog.at_level(logging.WARNING):
        content = build_content(config, dataset)
    assert content.matrix.shape[0] == dataset.item_num
    assert content.matrix[1:].any(1).all()
    assert "has no column" not in caplog.text
    assert "have no line" not in caplog.text


def test_every_configured_name_is_recboles_or_has_a_way_to_get_it():
    known = yaml.safe_load((recbole_folder() / "properties" / "dataset" / "url.yaml").read_text())
    for file in FOLDER.glob("[a-z]*.yaml"):
        assert file.stem in known or dataset_table.entry(file.stem).get("obtain"), file.stem


def test_a_name_without_download_says_what_to_do(tmp_path):
    with pytest.raises(
        UserError, match=r"transactions_train.csv.*put hm.inter there, or set --data_path=FOLDER"
    ):
        create_dataset(config_of("hm", tmp_path))


def test_item_ids_of_steam_can_also_be_called_as_in_the_interactions(tmp_path):
    write_stub(tmp_path, "steam-merged")
    file = tmp_path / "steam-merged" / "steam-merged.item"
    file.write_text(file.read_text().replace("\tid:token\t", "\tproduct_id:token\t"))
    config = config_of("steam-merged", tmp_path, "TSSR", content_dim=4)
    assert build_content(config, load_parts(config)[0]).matrix[1:].any(1).all()


# -- aliases ---------------------------------------------------------------------------


def test_an_alias_uses_the_files_of_its_data_set_and_says_so(tmp_path, caplog):
    write_stub(tmp_path, "steam-not-merged")
    config = config_of("steam", tmp_path)
    assert config["dataset"] == "steam-not-merged"
    assert config["ITEM_ID_FIELD"] == "product_id"
    with caplog.at_level(logging.INFO):
        dataset, _ = load_parts(config)
    assert count(dataset)["users"] == USERS
    assert "dataset 'steam' is an alias: 'steam-not-merged' is used" in caplog.text


def test_a_folder_with_the_name_comes_before_an_alias(tmp_path):
    write_stub(tmp_path, "steam", "ml-20m")
    config = config_of("steam", tmp_path)
    assert config["dataset"] == "steam"
    assert config["ITEM_ID_FIELD"] == "item_id"


@pytest.mark.parametrize(("alias", "name"), [("yelp", "yelp-2020"), ("H&M", "hm"), ("beauty", "beauty")])
def test_aliases(alias, name, tmp_path):
    assert dataset_table.resolve(alias, str(tmp_path)) == name
    assert dataset_table.resolve(alias, None) == name


def test_a_plan_names_the_data_set_of_an_alias_and_refuses_it_twice(tmp_path):
    keys = {"models": ["Pop"], "seeds": [1], "data_path": str(tmp_path)}
    assert list(make_plan({**keys, "datasets": ["steam"]}).datasets) == ["steam-not-merged"]
    twice = {"steam": {"MAX_ITEM_LIST_LENGTH": 5}, "steam-not-merged": {"MAX_ITEM_LIST_LENGTH": 9}}
    with pytest.raises(UserError, match=r"'steam-not-merged' appears twice"):
        make_plan({**keys, "datasets": twice})


# -- statistics ------------------------------------------------------------------------


def test_a_difference_of_more_than_one_percent_is_a_warning(tmp_path, caplog, stub_statistics):
    write_stub(tmp_path, "amazon-beauty")
    stub_statistics["statistics"] = {
        "users": USERS,
        "items": ITEMS + 1,
        "interactions": 42,
        "source": "a paper",
    }
    load_parts(config_of("amazon-beauty", tmp_path))
    (warning,) = [r.getMessage() for r in caplog.records if "the prepared data have" in r.getMessage()]
    assert "6 items (14.3 % less than 7), the numbers of a paper;" in warning
    assert "users (" not in warning
    assert "interactions (" not in warning


def test_equal_statistics_are_no_warning(tmp_path, caplog, stub_statistics):
    write_stub(tmp_path, "amazon-beauty")
    stub_statistics["statistics"] = {"users": USERS, "items": ITEMS, "interactions": 42, "source": "a paper"}
    load_parts(config_of("amazon-beauty", tmp_path))
    assert "the prepared data have" not in caplog.text


@pytest.mark.parametrize(("number", "warned"), [(990, False), (989, True), (1010, False), (1011, True)])
def test_one_percent_is_the_limit(number, warned):
    found = {"users": number, "items": 5, "interactions": 9}
    assert bool(difference({"users": 1000, "source": "a paper"}, found)) is warned


def test_the_stub_of_a_paper_differs_from_it(tmp_path, caplog):
    """The names in the table are the names in the configuration."""
    write_stub(tmp_path, "ml-20m")
    load_parts(config_of("ml-20m", tmp_path))
    assert "8 users (100.0 % less than 138,493)" in caplog.text


# -- downloads -------------------------------------------------------------------------


def archive_of(folder: Path, text: str) -> str:
    """Write ``folder/archive.zip`` and return its address."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "archive.zip", "w") as file:
        file.writestr("archive.inter", text)
    return (folder / "archive.zip").as_uri()


def test_a_later_download_has_to_be_the_same_archive(tmp_path):
    target = tmp_path / "data" / "set"
    # An archive contains the time at which it was made, so the same one is downloaded twice.
    first = archive_of(tmp_path / "a", "user_id:token\n1\n")
    download(first, "set", str(target))
    record = tmp_path / "data" / "set.sha256"
    digest, archive = record.read_text().split()
    assert len(digest) == 64
    assert archive == "archive.zip"
    (target / "set.inter").unlink()
    target.rmdir()

    address = archive_of(tmp_path / "b", "user_id:token\n2\n")
    with pytest.raises(UserError, match=rf"expected {digest} as recorded in .*set.sha256.*delete that file"):
        download(address, "set", str(target))
    assert not target.exists()
    assert [path.name for path in target.parent.iterdir()] == ["set.sha256"]

    download(first, "set", str(target))
    assert (target / "set.inter").is_file()

    (target / "set.inter").unlink()
    target.rmdir()
    record.unlink()
    download(address, "set", str(target))
    assert record.read_text().split()[0] != digest


def test_a_damaged_archive_leaves_no_checksum(tmp_path):
    address = archive_of(tmp_path, "user_id:token\n1\n")
    content = (tmp_path / "archive.zip").read_bytes()
    (tmp_path / "archive.zip").write_bytes(content[:40])
    with pytest.raises(UserError, match=r"the download of .* failed .*set.inter, set.item and set.user"):
        download(address, "set", str(tmp_path / "set"))
    assert not (tmp_path / "set.sha256").exists()
    assert not (tmp_path / "set").exists()


def test_an_address_that_is_gone_says_what_to_do(tmp_path):
    address = (tmp_path / "nothing.zip").as_uri()
    with pytest.raises(UserError, match=r"nothing.zip failed .*unpack the archive into"):
        download(address, "set", str(tmp_path / "set"))


def test_two_downloads_at_a_time_do_not_disturb_each_other(tmp_path, monkeypatch):
    address, target = archive_of(tmp_path, "user_id:token\n1\n"), tmp_path / "data" / "set"
    real, calls = downloads.download_url, []

    def slow(url, folder):
        calls.append(folder)
        path = real(url, folder)
        if len(calls) == 1:
            download(address, "set", str(target))  # another process is faster
        return path

    monkeypatch.setattr(downloads, "download_url", slow)
    download(address, "set", str(target))
    assert len(set(calls)) == 2
    assert sorted(path.name for path in target.parent.iterdir()) == ["set", "set.sha256"]
    assert [path.name for path in target.iterdir()] == ["set.inter"]
