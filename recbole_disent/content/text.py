"""Vectors of items from the words or tokens of their columns.

The functions need no download and return the same vectors for the same input. All counts are over items,
not over interactions.
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

# Scripts that are written without spaces: Thai to Myanmar, Khmer, Kana, Han (plain, extension
# A, compatibility, supplementary planes).
_NO_BLANKS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
# Maximum number of distinct words, and minimum number of items with a word: a word that only one item has
# does not relate the item to others.
_MAX_WORDS = 2**17
_LEAST_ITEMS = 2
# Seed of the start vector of the SVD, which iterates until it has converged to machine precision.
_SVD_SEED = 0


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of runs of letters, marks and digits, and of runs of scripts without spaces."""
    # \\w does not match combining marks, so that it would split Devanagari or Thai words.
    marks = [c for c in map(chr, range(0x300, 0x20000)) if unicodedata.category(c)[0] == "M"]
    word = re.compile(rf"(?:[^\W_]|[{''.join(map(re.escape, marks))}])+")
    return word, re.compile(f"([{_NO_BLANKS}]+)")


def words(text: str) -> list[str]:
    """Split a text into lower-case words, or into pairs of characters for scripts without spaces."""
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
    """Compute TF-IDF vectors of words and reduce them by a truncated SVD (latent semantic analysis).

    Args:
        texts: n texts, one for each item.
        width: maximum number of columns.

    Returns:
        float32 (n, at most width). Rows have unit length; a row is zero if its text shares no word with
        another text. The shape is (n, 0) if no text has words.
    """
    vectoriser = TfidfVectorizer(
        analyzer=words, min_df=_LEAST_ITEMS, max_features=_MAX_WORDS, sublinear_tf=True, dtype=np.float64
    )
    try:
        weights = vectoriser.fit_transform(texts)
    except ValueError:  # there are no words, or no two items share a word
        if not any(map(words, texts)):
            return np.zeros((len(texts), 0), dtype=np.float32)
        weights = vectoriser.set_params(min_df=1).fit_transform(texts)
    if weights.shape[1] > width:
        # ARPACK requires fewer components than rows.
        components = max(1, min(width, weights.shape[0] - 1))
        svd = TruncatedSVD(components, algorithm="arpack", random_state=_SVD_SEED)
        dense = svd.fit_transform(weights)
        # Components beyond the rank of the matrix consist of rounding errors.
        dense[:, svd.singular_values_ <= 1e-9 * svd.singular_values_[0]] = 0
        # The vector of an item without words must be exactly zero.
        dense[np.diff(weights.indptr) == 0] = 0
    else:
        dense = weights.toarray()
    return normalize(dense).astype(np.float32)


def token_vectors(tokens: list[list[str]], limit: int) -> np.ndarray:
    """Make bag-of-tokens vectors: each column is a token, and each row is binary up to its unit length.

    Args:
        tokens: tokens of each of the n items; a repeated token counts once.
        limit: maximum number of columns. The tokens that most items have are kept; ties are broken in
            alphabetical order.

    Returns:
        float32 (n, number of kept tokens).
    """
    counts = Counter(token for row in tokens for token in set(row))
    kept = sorted(counts, key=lambda token: (-counts[token], token))[:limit]
    if not kept:
        return np.zeros((len(tokens), 0), np.float32)
    column = {token: number for number, token in enumerate(kept)}
    pairs = [(i, column[t]) for i, row in enumerate(tokens) for t in set(row) if t in column]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    bag = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(tokens), len(kept)))
    return normalize(bag).toarray().astype(np.float32)
