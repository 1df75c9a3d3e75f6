"""Tables of configuration keys for the documentation, made from ``properties/*.yaml``.

``python -m recbole_disent.config.key_tables`` prints them.
"""

from __future__ import annotations

from recbole_disent.config.key_rules import KeyRule, folder, of_file, recbole_keys

_NOT_KEYS = {"recbole_keys.yaml"}
_STATUS = {"works": "works", "refused": "refused", "no_meaning": "no meaning"}


def files() -> list[str]:
    """Return the files of ``properties`` that define keys, starting with the file for every model."""
    base = folder("properties")
    found = [
        path for path in (*base.glob("*.yaml"), *base.glob("model/*.yaml")) if path.name not in _NOT_KEYS
    ]
    names = sorted(path.relative_to(base).as_posix() for path in found)
    return sorted(names, key=lambda name: (name != "overall.yaml", name.count("/") == 0, name))


def title(file: str) -> str:
    """Return the heading of a file's table: the first sentence of its first comment."""
    line = (folder("properties") / file).read_text(encoding="utf-8").splitlines()[0]
    return line.lstrip("# ").partition(". ")[0].rstrip(".")


def markdown(rules: dict[str, KeyRule]) -> str:
    """Return a Markdown table of keys."""
    lines = ["| key | default | values | scope | meaning |", "| --- | --- | --- | --- | --- |"]
    for rule in rules.values():
        default = "null" if rule.default is None else str(rule.default)
        only = f" Only with `{rule.need}`." if rule.need else ""
        meaning = (rule.meaning + only).replace("|", "\\|")
        lines.append(f"| `{rule.key}` | `{default}` | {rule.rule} | {rule.scope} | {meaning} |")
    return "\n".join(lines)


def recbole_markdown() -> str:
    """Return a Markdown table of RecBole's documented keys and what each key does in this package."""
    lines = ["| key | here | scope | what it does | test |", "| --- | --- | --- | --- | --- |"]
    for key, row in recbole_keys().items():
        note = row["note"].replace("|", "\\|")
        lines.append(f"| `{key}` | {_STATUS[row['status']]} | {row['scope']} | {note} | `{row['test']}` |")
    return "\n".join(lines)


def page() -> str:
    """Return a section with a table for each file, and a section with the table of RecBole's keys."""
    sections = [f"## {title(file)}\n\n{markdown(of_file(file))}\n" for file in files()]
    return "\n".join([*sections, f"## Keys of RecBole\n\n{recbole_markdown()}\n"])


if __name__ == "__main__":
    print(page())
