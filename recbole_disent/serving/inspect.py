"""What the intentions of a model are, and why a person gets a list: numbers first, then a page of them."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recbole_disent.serving.arguments import check_k, warn_of_unknown
from recbole_disent.serving.lists import Filters, Queries
from recbole_disent.serving.select import top_items

# Users whose histories and lists tell what intentions are used for.
_SAMPLE = 2000
# An intention is described by so many items.
_SHOWN = 10
# The overlap of two intentions is measured on so many items.
_COMPARED = 50
# Fewer intentions in use, or lists that are more alike than this, count as a collapse.
_LEAST_EFFECTIVE, _MOST_OVERLAP = 1.5, 0.8


def describe(recommender: Any, users: list[str], sequences: list[list[str]], k: int = 10) -> dict[str, Any]:
    """Collect what there is to see, as JSON values.

    Args:
        recommender: a :class:`~recbole_disent.recommender.Recommender`.
        users, sequences: whose lists are explained.
        k: length of the lists.

    Returns:
        ``about`` (facts), ``intentions`` (a dictionary, or None for a model without several query vectors or
        a bundle without histories), ``note`` (why there are none, or None) and ``people`` (a list).

    Raises:
        UserError: unknown users, a *k* below 1, or a model that cannot do what is asked for.
    """
    check_k(k)
    about = {key: recommender.about.get(key) for key in ("model", "dataset", "data_hash", "digest")}
    people = []
    if users:
        queries = recommender.queries_of_users(users)
        recommender.require_histories(True)  # lists leave out what the users have met
        people += [
            _person(recommender, f"user {u}", queries.part(torch.tensor([n])), k) for n, u in enumerate(users)
        ]
    if sequences:
        queries, unknown = recommender.queries_of_sequences(sequences)
        warn_of_unknown(unknown)
        for n, count in enumerate(unknown.tolist()):
            title = f"sequence {n + 1}" + (f" (unknown item ids, left out: {count})" if count else "")
            people.append(_person(recommender, title, queries.part(torch.tensor([n])), k))
    found, note = _intentions(recommender, k)
    return {"about": about, "intentions": found, "note": note, "people": people}


def wrote(path: Path) -> bool:
    """Whether a file holds what :func:`describe` found."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(found, dict) and found.keys() == {"about", "intentions", "note", "people"}


def _intentions(recommender: Any, k: int) -> tuple[dict[str, Any] | None, str | None]:
    encoder, catalogue = recommender.encoder, recommender.catalogue
    if encoder.table is None:
        return None, f"The scores of {encoder.name} are no inner products, so that there are no intentions."
    if catalogue.histories is None:
        return None, "The bundle holds no histories, so that nothing is known of the use of intentions."
    able = (catalogue.histories.offsets.diff() > 0).nonzero()[:, 0]
    users = able[torch.linspace(0, len(able) - 1, min(_SAMPLE, len(able))).long()]
    queries = Queries(catalogue.histories, users, users, torch.zeros(len(users), dtype=torch.bool))
    parts = [queries.part(part) for part in torch.arange(len(users)).split(256)]
    vectors = torch.cat([recommender.vectors_of(part) for part in parts])
    n_vectors = vectors.shape[1]
    if n_vectors == 1:
        return None, f"{encoder.name} has one vector for each sequence, so that there are no intentions."
    lists = recommender.lists(queries, k, Filters())
    chosen = np.bincount(lists.intentions[lists.items > 0], minlength=n_vectors)
    feeding = _feeding_items(recommender, parts, n_vectors)
    scores = vectors.mean(0) @ encoder.padded.T
    scores[:, 0] = scores[:, len(catalogue.items) :] = float("-inf")
    compared = compared_items(len(catalogue.items) - 1)
    best = top_items(scores, min(max(compared, _SHOWN), len(catalogue.items) - 1))[1].cpu().numpy()
    directions = torch.nn.functional.normalize(vectors, dim=-1)
    cosines = (directions @ directions.transpose(1, 2)).mean(0)
    shares = None if feeding is None else feeding[0]
    rows = []
    for i in range(n_vectors):
        row = {
            "intention": i,
            "share_of_clicks": None if shares is None else float(shares[i]),
            "share_of_lists": float(chosen[i] / max(chosen.sum(), 1)),
            "items": [_item(catalogue, number) for number in best[i, :_SHOWN]],
            "fed_by": [] if feeding is None else [_item(catalogue, number) for number in feeding[1][i]],
        }
        rows.append(row)
    pairs = list(combinations(range(n_vectors), 2))
    heads = [{*row[:compared]} for row in best]
    overlap = float(np.mean([len(heads[a] & heads[b]) / len(heads[a]) for a, b in pairs]))
    measures = {
        "users": len(users),
        "effective_intentions_of_lists": effective_number(chosen),
        "effective_intentions_of_clicks": None if shares is None else effective_number(shares),
        "overlap_of_items": overlap,
        "cosine_of_query_vectors": float(np.mean([float(cosines[a, b]) for a, b in pairs])),
    }
    return {"rows": rows, "measures": measures, "verdict": verdict(measures, n_vectors)}, None


def compared_items(n_items: int) -> int:
    """Number of the best items of two intentions that are compared.

    It is small beside the catalogue, because large parts of a catalogue have many items in common by chance.
    """
    return max(1, min(_COMPARED, max(5, n_items // 10), n_items // 2))


def effective_number(shares: np.ndarray) -> float:
    """How many intentions are in use: exp of the entropy of their shares, from 1 to K."""
    total = shares.sum()
    used = shares[shares > 0] / total if total else np.ones(1)
    return float(np.exp(-(used * np.log(used)).sum()))


def verdict(measures: dict[str, Any], n_vectors: int) -> dict[str, Any]:
    """Say whether the intentions are several in more than name."""
    used, overlap = measures["effective_intentions_of_lists"], measures["overlap_of_items"]
    faults = []
    if used < _LEAST_EFFECTIVE:
        faults.append(f"lists come from {used:.2f} intentions in effect, of {n_vectors}")
    clicks = measures["effective_intentions_of_clicks"]
    if clicks is not None and clicks < _LEAST_EFFECTIVE:
        faults.append(f"events feed {clicks:.2f} intentions in effect, of {n_vectors}")
    if overlap > _MOST_OVERLAP:
        faults.append(f"two intentions share {overlap:.0%} of their best items on average")
    if faults:
        text = "The intentions have collapsed: " + "; ".join(faults) + ". Do not read a meaning into them."
    else:
        text = (
            f"The intentions differ: lists come from {used:.2f} of {n_vectors} in effect, and two intentions "
            f"share {overlap:.0%} of their best items on average."
        )
    return {"collapsed": bool(faults), "text": text}


def _feeding_items(
    recommender: Any, parts: list[Queries], n_vectors: int
) -> tuple[np.ndarray, list[Any]] | None:
    """Share of events and best feeding items of each intention; None for a model without p(k|i)."""
    encoder, n_items = recommender.encoder, len(recommender.catalogue.items)
    if not hasattr(encoder.model, "intention_weights"):
        return None
    sums = torch.zeros(n_items, n_vectors, dtype=torch.float64)
    counts = torch.zeros(n_items, dtype=torch.float64)
    for part in parts:
        items, clusters, _ = _events(recommender, part)
        real = items > 0
        sums.index_add_(0, items[real], clusters[real].double())
        counts.index_add_(0, items[real], torch.ones(int(real.sum()), dtype=torch.float64))
    shares = (sums.sum(0) / counts.sum()).numpy()
    # An item of one or two events tells little.
    means = (sums / counts.clamp(min=1)[:, None]).masked_fill(
        (counts < min(3.0, float(counts.max())))[:, None], -1.0
    )
    best = means.T.sort(dim=1, descending=True, stable=True).indices[:, :_SHOWN]
    return shares, [[n for n in row if means[n, i] >= 0] for i, row in enumerate(best.tolist())]


def _events(recommender: Any, queries: Queries) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items (B, L), p(k|i) (B, L, K) and p(i) (B, L) of the events that the model reads."""
    encoder = recommender.encoder
    batch = encoder.batch(queries.store, queries.rows, queries.users)
    clusters, weights = encoder.explain(batch)
    items, _ = queries.store.last_histories(queries.rows, encoder.max_length)
    width = items.shape[1]
    return items, clusters[:, :width].cpu(), weights[:, :width].cpu()


def _person(recommender: Any, name: str, queries: Queries, k: int) -> dict[str, Any]:
    encoder, catalogue = recommender.encoder, recommender.catalogue
    lists = recommender.lists(queries, k, Filters())
    popular = bool(queries.popular[0])
    several = None
    if encoder.table is not None and not popular:
        vectors = recommender.vectors_of(queries)[0]
        if len(vectors) > 1:
            numbers = torch.from_numpy(lists.items[0]).to(encoder.device)
            several = (vectors @ encoder.table[numbers].T).T.cpu().numpy()
    recommended = []
    for place, number in enumerate(lists.items[0]):
        if number:
            row = {**_item(catalogue, number), "rank": place + 1, "score": float(lists.scores[0, place])}
            if several is not None:
                row["intention"] = int(lists.intentions[0, place])
                row["scores"] = [float(s) for s in several[place]]
            recommended.append(row)
    events = []
    if encoder.sequential and not popular:
        explained = hasattr(encoder.model, "intention_weights")
        items, lengths = queries.store.last_histories(queries.rows, encoder.max_length)
        if explained:
            _, clusters, weights = _events(recommender, queries)
        for place in range(int(lengths[0])):
            row = _item(catalogue, int(items[0, place]))
            if explained:
                row["weight"] = float(weights[0, place])
                row["intentions"] = [float(p) for p in clusters[0, place]]
            events.append(row)
    return {"name": name, "source": "popularity" if popular else "model", "events": events,
            "recommended": recommended}  # fmt: skip


def _item(catalogue: Any, number: int) -> dict[str, Any]:
    text = None if catalogue.texts is None else catalogue.texts[number] or None
    return {"item": str(catalogue.items[number]), "text": text}
