"""The README of a bundle: what the model is, and how to use it."""

from __future__ import annotations

from typing import Any


def card(
    described: dict[str, Any], reads_sequences: bool, has_users: bool, has_histories: bool, has_content: bool
) -> str:
    """Make the model card of a bundle, with the front matter of the Hugging Face hub.

    Args:
        described: content of ``config.json``.
        reads_sequences: whether the model recommends for sequences of items.
        has_users: whether the bundle knows users.
        has_histories: whether it holds their histories.
        has_content: whether it holds vectors of item content.
    """
    model, dataset = described["model"], described["dataset"]
    metrics = {
        "validation": described.get("best_valid_result"),
        "test": described.get("test_result"),
    }
    names = list(dict.fromkeys(name for found in metrics.values() for name in found or {}))
    rows = []
    for name in names:
        values = [_number((found or {}).get(name)) for found in metrics.values()]
        rows.append(f"| {name} | {' | '.join(values)} |")
    table = ["| metric | validation | test |", "| --- | --- | --- |", *rows]
    keys = described["config"]
    facts = [
        f"- model: {model}, trained on the data set `{dataset}`",
        f"- items: {described['n_items']}, users in training: {described['n_users']}",
        f"- digest of data and split: `{described['data_hash']}`",
        f"- longest history that is read: {keys.get('MAX_ITEM_LIST_LENGTH')} items, seed: {keys.get('seed')}",
        f"- item content: {'yes' if has_content else 'no'}, users: {'yes' if has_users else 'no'}",
        "- versions: " + ", ".join(f"{k} {v}" for k, v in described["versions"].items() if v),
    ]
    if described.get("index"):
        found = described["index"]
        facts.append(f"- index: {found['kind']}, finds {found['recall@10']:.1%} of the exact 10 best items")
    use = ["```python", "import recbole_disent", "", 'rec = recbole_disent.load("FOLDER OF THIS FILE")']
    who, rule = (
        ("--users all", "") if has_histories else ("--users all --keep-history", ", filter_history=False")
    )
    if reads_sequences:
        who = "--sequences FILE"
        use.append('rec.recommend_sequences([["ITEM ID", "ITEM ID"]], k=10)')
    if has_users:
        use.append(f"rec.recommend(users=rec.users[:5], k=10{rule})")
    use.append("```")
    return "\n".join(
        [
            "---",
            "library_name: recbole_disent",
            "pipeline_tag: other",
            "tags:",
            "- recommendation",
            f"- {model}",
            "---",
            "",
            f"# {model} on {dataset}",
            "",
            *facts,
            "",
            "## Use it",
            "",
            "The first command runs in a folder with the source of recbole_disent.",
            "",
            "```",
            "pip install '.[bundle]'",
            "pip install --no-deps recbole==1.2.1",
            f"recbole-disent recommend FOLDER {who} --k 10 --out recs.csv",
            "```",
            "",
            *use,
            "",
            "## How good it is",
            "",
            *(table if rows else ["The checkpoint holds no metrics."]),
            "",
            "`config.json` holds all settings of the training and the SHA-256 digest of each file.",
            "",
        ]
    )


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
