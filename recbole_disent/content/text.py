"""Vectors of items from the words or tokens of their columns: no download, same input, same output.

Counts here are over items, never over interactions.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

import numpy as np
from scipy import sparse
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

# Scripts that are written without blanks: Thai to Myanmar, Khmer, Kana, Han (plain, extension
# A, compatibility, supplementary planes).
_NO_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Distinct words at the most; a word of one item only relates it to no other.
_MAX_WORDS = 2**17
_LEAST_ITEMS = 2
# The SVD starts from a vector that is drawn with this, and ends when it is exact.
_SVD_SEED = 0


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Runs of letters, marks and digits of any script; runs of scripts without blanks."""
    # \\w lacks combining marks, which would cut Devanagari or Thai words into pieces.
    marks = [c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M"]
    word = re.compile(rf"(?:[^\W_]|[{''.join(map(re.escape, marks))}])+")
    return word, re.compile(f"([{_NO_BLANKS}]+)")


def words(text: str) -> list[str]:
    """Cut a text into lower-case words; into pairs of characters where a script has no blanks."""
    word, unspaced = _patterns()
    found: list[str] = []
    for run in word.findall(unicodedata.normalize("NFKC", text).lower()):
        if run.isascii():
            found.append(run)
            continue
        for number, piece in enumerate(unspaced.split(run)):
            if number % 2 and len(piece) > 1:
                found += [piece[i : i + 2] for i in range(len(piece) - 1)]
            elif piece:
                found.append(piece)
    return found


def text_vectors(texts: list[str], width: int) -> np.ndarray:
    """TF-IDF of the words, reduced by a truncated SVD (latent semantic analysis).

    Args:
        texts: one an item.
        width: largest number of columns.

    Returns:
        float32 (n, at most width), rows of unit length, zero where a text has no word that
        another has too; (n, 0) where no text has words.
    """
    vectoriser = TfidfVectorizer(
        analyzer=words, min_df=_LEAST_ITEMS, max_features=_MAX_WORDS, sublinear_tf=True, dtype=np.float64
    )
    try:
        weights = vectoriser.fit_transform(texts)
    except ValueError:  # no word, or none that two items share
        if not any(map(words, texts)):
            return np.zeros((len(texts), 0), dtype=np.float32)
        weights = vectoriser.set_params(min_df=1).fit_transform(texts)
    if weights.shape[1] > width:
        # ARPACK wants fewer components than rows.
        components = max(1, min(width, weights.shape[0] - 1))
        svd = TruncatedSVD(components, algorithm="arpack", random_state=_SVD_SEED)
        dense = svd.fit_transform(weights)
        # Components that the texts do not have are rounding errors.
        dense[:, svd.singular_values_ <= 1e-9 * svd.singular_values_[0]] = 0
        # An item without a word must stay without a direction.
        dense[np.diff(weights.indptr) == 0] = 0
    else:
        dense = weights.toarray()
    return normalize(dense).astype(np.float32)


def token_vectors(tokens: list[list[str]], limit: int) -> np.ndarray:
    """Bag of tokens: the columns are tokens, a row's entries are equal and of unit length.

    Args:
        tokens: of each item; repeated ones count once.
        limit: largest number of columns; tokens of the most items stay, then in sorted order.

    Returns:
        float32 (n, distinct tokens).
    """
    counts = Counter(token for row in tokens for token in set(row))
    kept = sorted(counts, key=lambda token: (-counts[token], token))[:limit]
    column = {token: place for place, token in enumerate(kept)}
    pairs = [(i, column[t]) for i, row in enumerate(tokens) for t in set(row) if t in column]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    bag = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(tokens), len(kept)))
    return normalize(bag).toarray().astype(np.float32)
