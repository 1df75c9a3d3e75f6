"""Ranks the held-out items of a part and hands the result to RecBole's metrics."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import Register
from torch import Tensor

from recbole_disent.data import candidates as drawing
from recbole_disent.errors import UserError
from recbole_disent.evaluation.full_ranking import largest_entry, rank_among_all
from recbole_disent.evaluation.metrics import cooccurrence_vectors
from recbole_disent.evaluation.ranks import hit_matrix, placed, ranks, top_columns
from recbole_disent.evaluation.repeats import in_history, is_closed, put_last, repeats_of
from recbole_disent.evaluation.scoring import Scorer, item_vectors
from recbole_disent.loaders.evaluation import EvalBatch, EvalLoader, filters_history
from recbole_disent.parallel import process_group
from recbole_disent.progress import bar

_PARTS = {"valid": 1, "test": 2}


class RankingEvaluator:
    """One evaluation protocol for every model: it ranks all items, or the same candidates.

    Args:
        config: the configuration.
        train: the training part, for statistics of its clicks.
    """

    def __init__(self, config: Any, train: Any) -> None:
        self.config, self.train = config, train
        self.metrics = Evaluator(config)
        self.needs = Register(config)
        self._drawn: dict[str, drawing.Candidates] = {}
        self._vectors: Tensor | None = None
        # Whether items of a history are ranked last, because no training target repeats one.
        self.gated: bool = config["repeat_gate"] and is_closed(train)
        # Rank of the held-out item of each query of the last evaluation, for statistics.
        self.last_ranks: np.ndarray | None = None

    # -- candidates --------------------------------------------------------------------

    def candidates(self, dataset: Any) -> drawing.Candidates | None:
        """Return the candidates of a part; None where all items are ranked."""
        part = dataset.part
        k = self.config[f"{part}_neg_sample_args"]["sample_num"]
        if k == "none":
            return None
        if part not in self._drawn:
            with process_group.rank_zero_first():
                path = self._cache_file(dataset, k)
                self._drawn[part] = drawing.cached(path, lambda: self._draw(dataset, k))
            if short := self._drawn[part].short_rows:
                dataset.logger.warning(
                    f"{short} {part} rows have fewer than {k} items outside the user's history: "
                    "these rows are ranked among fewer candidates"
                )
        return self._drawn[part]

    def candidate_hashes(self) -> dict[str, str]:
        """Return part -> digest of the candidates used so far."""
        return {part: drawn.hash for part, drawn in self._drawn.items()}

    def short_rows(self) -> dict[str, int]:
        """Return part -> number of rows with fewer candidates than requested."""
        return {part: drawn.short_rows for part, drawn in self._drawn.items()}

    def chosen(self) -> dict[str, str]:
        """Return what ``repeat_gate`` became, for the result file; empty without the key."""
        return {"repeat_gate": "closed" if self.gated else "open"} if self.config["repeat_gate"] else {}

    def _weights(self, dataset: Any) -> np.ndarray:
        if self.config[f"{dataset.part}_neg_sample_args"]["distribution"] == "uniform":
            return np.ones(dataset.item_num)
        items = dataset.history[1]
        if self.config["candidate_popularity"] == "train":
            items = items[dataset.train_mask]
        return drawing.popularity(items, dataset.item_num)

    def _draw(self, dataset: Any, k: int) -> drawing.Candidates:
        feat = dataset.inter_feat
        return drawing.draw(
            feat[dataset.uid_field].numpy(),
            feat[dataset.iid_field].numpy(),
            dataset.history,
            self._weights(dataset),
            k,
            [self.config["candidate_seed"], _PARTS[dataset.part]],
        )

    def _cache_file(self, dataset: Any, k: int) -> str:
        mode = self.config["eval_args"]["mode"][dataset.part]
        feat = dataset.inter_feat
        key = drawing.digest(
            f"{dataset.part} {k} {mode} {self.config['candidate_seed']}",
            *dataset.history,
            feat[dataset.uid_field].numpy(),
            feat[dataset.iid_field].numpy(),
            self._weights(dataset),
        )
        folder = self.config["candidate_dir"] or os.path.join(self.config["checkpoint_dir"], "candidates")
        return os.path.join(folder, f"{self.config['dataset']}-{dataset.part}-{mode}-{key}.npz")

    # -- evaluation --------------------------------------------------------------------

    @torch.no_grad()
    def evaluate(self, model: Any, loader: EvalLoader, show_progress: bool = False) -> dict[str, float]:
        """Return RecBole's dictionary metric@k -> value for a part.

        Args:
            model: the model, in evaluation mode.
            loader: loader of the part.
            show_progress: whether process 0 shows a progress bar.

        Raises:
            UserError: a cut-off is above the number of items that can be ranked.
        """
        dataset = loader.dataset
        drawn = self.candidates(dataset)
        k = max(self.config["topk"])
        limit = dataset.item_num - 1 if drawn is None else drawn.negatives.shape[1] + 1
        if k > limit:
            raise UserError(f"topk: got {k}, expected at most {limit}, the number of ranked items")
        scorer = Scorer(model, dataset, self.config["device"])
        if drawn is None:
            scorer.vectors = self._item_vectors(model)
            if scorer.vectors is not None:
                scorer.largest = largest_entry(scorer.vectors[0])
        seed = np.random.SeedSequence([self.config["candidate_seed"], _PARTS[dataset.part]])
        rng = np.random.default_rng(seed)
        tie_break = torch.from_numpy(rng.random(loader.n_queries))
        permutation = torch.from_numpy(rng.permutation(limit + (drawn is None)))
        # Each process ranks its chunks, and all processes compute the same metrics from all ranks.
        ours = []
        with bar(f"Evaluate ({dataset.part})", -(-len(loader) // process_group.world()),
                 show_progress and process_group.rank() == 0) as shown:  # fmt: skip
            for number, queries in loader.local_chunks():
                ranked = self._rank(scorer, queries, drawn, tie_break, permutation, k, loader)
                ours.append((number, queries.number, ranked))
                shown.update()
        every = sorted((c for chunks in process_group.all_objects(ours) for c in chunks), key=itemgetter(0))
        found: dict[str, list[Tensor]] = {}
        for _, _, part in every:
            for name, value in part.items():
                found.setdefault(name, []).append(value)
        numbers = [number for _, number, _ in every]
        struct = DataStruct()
        order = torch.from_numpy(np.argsort(np.concatenate(numbers), kind="stable"))
        for name, values in found.items():
            joined = torch.cat(values)
            struct.set(name, joined[order] if len(joined) == len(order) else joined)
        self.last_ranks = struct.get("ranks").numpy()
        if "rec.items" in struct and not len(struct.get("rec.items")):
            raise UserError(
                f"topk: got {k}, expected a smaller number: no {dataset.part} row has that many items to rank"
            )
        self._describe_data(struct)
        return self.metrics.evaluate(struct)

    def _item_vectors(self, model: Any) -> tuple[Tensor, Callable[[Any], Tensor]] | None:
        """Return :func:`.item_vectors` in the precision that ``score_dtype`` says."""
        found, wanted = item_vectors(model, self.config["model"]), self.config["score_dtype"]
        if wanted == "float32":
            return found
        if found is None:
            raise UserError(
                f"score_dtype: got '{wanted}', expected float32, because the scores of "
                f"{self.config['model']} are not inner products"
            )
        return found[0].to(getattr(torch, wanted)), found[1]

    def _rank(
        self,
        scorer: Scorer,
        queries: EvalBatch,
        drawn: drawing.Candidates | None,
        tie_break: Tensor,
        permutation: Tensor,
        k: int,
        loader: EvalLoader,
    ) -> dict[str, Tensor]:
        # The part decides how ties are broken, and not the chunk, whose size must not change a rank.
        several, whole_rows = loader.several_targets, loader.whole_rows
        if drawn is None and not several and scorer.vectors is not None:
            return self._rank_in_tiles(scorer, queries, tie_break, permutation, k, whole_rows)
        if drawn is None and not several and len(queries.number) > whole_rows:
            parts = [
                self._rank_rows(scorer, part, None, tie_break, permutation, k, several)
                for part in queries.split(whole_rows)
            ]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return self._rank_rows(scorer, queries, drawn, tie_break, permutation, k, several)

    def _rank_in_tiles(
        self,
        scorer: Scorer,
        queries: EvalBatch,
        tie_break: Tensor,
        permutation: Tensor,
        k: int,
        whole_rows: int,
    ) -> dict[str, Tensor]:
        """Rank one held-out item of each query among all items without the scores of all items."""
        assert scorer.vectors is not None
        dataset, device = scorer.dataset, scorer.device
        table, query_vectors = scorer.vectors
        row = item = torch.zeros(0, dtype=torch.long)
        if self.gated or filters_history(self.config):
            row, item = dataset.earlier(queries.rows)
        lists = self._needs_lists
        ranked = rank_among_all(
            table,
            query_vectors(queries.batch.to(device)),
            queries.positives,
            row,
            item,
            k if lists else 0,
            permutation.to(device) if lists else None,
            whole_rows,
            scorer.largest,
            keep=not self.gated,
        )
        number = torch.from_numpy(queries.number)
        rank, mean_rank = placed(ranked.greater.cpu(), ranked.equal.cpu(), tie_break[number])
        number_ranked = ranked.ranked
        if self.gated:
            repeated = in_history(row, item, queries.owner, queries.positives, dataset.item_num)
            last = dataset.item_num - 1
            number_ranked = put_last(rank, mean_rank, number_ranked, repeated, queries.owner, last)
        found = {"ranks": rank, "rec.topk": hit_matrix(rank, queries.owner, len(rank), k)}
        if self.needs.need("rec.meanrank"):
            one = torch.ones_like(rank)
            found["rec.meanrank"] = torch.stack([mean_rank.double(), number_ranked, one], 1)
        if lists:
            assert ranked.best is not None
            assert ranked.full is not None
            self._add_lists(found, dataset, queries, ranked.best.cpu(), ranked.full.cpu())
        return found

    @property
    def _needs_lists(self) -> bool:
        return bool(self.needs.need("rec.items") or self.needs.need("rec.repeats"))

    def _add_lists(
        self, found: dict[str, Tensor], dataset: Any, queries: EvalBatch, best: Tensor, full: Tensor
    ) -> None:
        """Add the lists; metrics of lists leave out a list with fewer than k items."""
        found["rec.items"] = best[full]
        if self.needs.need("rec.repeats"):
            found["rec.repeats"] = repeats_of(dataset, queries.rows, best)[full]

    def _rank_rows(
        self,
        scorer: Scorer,
        queries: EvalBatch,
        drawn: drawing.Candidates | None,
        tie_break: Tensor,
        permutation: Tensor,
        k: int,
        several: bool,
    ) -> dict[str, Tensor]:
        """Rank held-out items among candidates, or among all items with all scores of the queries."""
        dataset, device = scorer.dataset, scorer.device
        owner, positives = queries.owner, queries.positives
        if drawn is None:
            scores = scorer.all_items(queries.batch)
            own = scores[owner.to(device), positives.to(device)]
            scores[:, 0] = float("-inf")
            if self.gated or filters_history(self.config):
                row, item = dataset.earlier(queries.rows)
                scores[row.to(device), item.to(device)] = float("-inf")
                if not self.gated:  # A held-out item is ranked even if the user has met it before.
                    scores[owner.to(device), positives.to(device)] = own
            column, items = positives, None
        else:
            users = queries.batch[dataset.uid_field].numpy()
            negatives = torch.from_numpy(drawn.of(users, positives.numpy()))
            items = torch.cat([positives[:, None], negatives], 1)
            scores = scorer.candidates(queries.batch, items)
            column = torch.zeros_like(positives)
        number = torch.from_numpy(queries.number)
        rank, mean_rank = ranks(
            scores,
            owner.to(device),
            column.to(device),
            tie_break[number].to(device),
            permutation.to(device),
            several,
        )
        rank, mean_rank = rank.cpu(), mean_rank.cpu()
        gated, wants_mean = drawn is None and self.gated, self.needs.need("rec.meanrank")
        if gated or wants_mean:  # a pass over all scores
            ranked = (scores > float("-inf")).sum(1).cpu()
        if gated:
            repeated = in_history(row, item, owner, positives, dataset.item_num)
            ranked = put_last(rank, mean_rank, ranked, repeated, owner, dataset.item_num - 1)
        n = len(queries.number)
        found = {"ranks": rank, "rec.topk": hit_matrix(rank, owner, n, k)}
        if wants_mean:
            sums = torch.zeros(n, dtype=torch.float64).index_add_(0, owner, mean_rank.double())
            found["rec.meanrank"] = torch.stack([sums, ranked, owner.bincount(minlength=n)], 1)
        if self._needs_lists:
            best = top_columns(scores, k, permutation.to(device))
            full = (scores.gather(1, best) > float("-inf")).all(1).cpu()
            best = best.cpu() if items is None else items.gather(1, best.cpu())
            self._add_lists(found, dataset, queries, best, full)
        return found

    def _describe_data(self, struct: DataStruct) -> None:
        train = self.train
        # RecBole counts the padding item too, so that its coverage cannot reach 1.
        struct.set("data.num_items", train.item_num - 1)
        struct.set("data.num_users", train.user_num)
        # RecBole's counters leave out the first click of each user for sequential models only.
        for name, side in (("data.count_users", 0), ("data.count_items", 1)):
            if self.needs.need(name):
                counts = np.bincount(train.history[side][train.train_mask])
                struct.set(name, Counter({int(i): int(counts[i]) for i in counts.nonzero()[0]}))
        if self.needs.need("data.item_vectors"):
            if self._vectors is None:
                users, items = (side[train.train_mask] for side in train.history)
                self._vectors = cooccurrence_vectors(users, items, train.user_num, train.item_num)
            struct.set("data.item_vectors", self._vectors)
