"""Bodies of the requests that the server takes, and of its answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

MAX_K = 1000
MAX_IDS = 10_000
Id = Annotated[str, Field(max_length=256, coerce_numbers_to_str=True)]
Ids = Annotated[list[Id], Field(max_length=MAX_IDS)]
Length = Annotated[int, Field(strict=True, ge=1, le=MAX_K)]


class Body(BaseModel):
    """Body of a request. What is too much is refused as a whole: pydantic would list each fault."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        unknown = given.keys() - cls.model_fields.keys()
        if unknown:
            raise ValueError(
                f"the key {min(unknown)[:100]!r} is not known ({len(unknown)} such), expected "
                f"{', '.join(cls.model_fields)}"
            )
        for key, value in given.items():
            if isinstance(value, list) and len(value) > MAX_IDS:
                raise ValueError(f"{key}: got {len(value)} values, expected at most {MAX_IDS}")
        return given


class RecommendBody(Body):
    """Body of POST /recommend: a user or a sequence."""

    user: Id | None = None
    sequence: Ids | None = None
    k: Length = 10
    filter_history: StrictBool = True
    items_allowed: Ids | None = None
    items_excluded: Ids = []
    unknown_users: Literal["error", "popularity"] = "error"
    diversity: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    diversify: Literal["intentions", "mmr"] | None = None


class SimilarBody(Body):
    """Body of POST /similar."""

    item: Id
    k: Length = 10


class Row(BaseModel):
    """One item of an answer."""

    item: str
    score: float
    rank: int
    text: str | None


class ListRow(Row):
    """One item of a list; the intention is null for a model with one vector, and for a popular item."""

    intention: int | None


class ListAnswer(BaseModel):
    """Answer of POST /recommend."""

    items: list[ListRow]
    source: Literal["model", "popularity"]
    unknown_items: int
    unknown_allowed: int
    unknown_excluded: int
    bundle: str


class SimilarAnswer(BaseModel):
    """Answer of POST /similar."""

    items: list[Row]
    bundle: str
