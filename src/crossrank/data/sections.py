"""Strict sections of a configuration file: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator


class Section(BaseModel):
    """A part of a configuration: typed, frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            unknown = [str(key) for key in value if key not in cls.model_fields]
            if unknown:
                raise ValueError("; ".join(unknown_key(key, cls.model_fields) for key in unknown))
        return value


def unknown_key(key: str, known: Iterable[str], *, what: str = "key") -> str:
    """Return a sentence that names an unknown key, or something else that has a name, and the nearest known one."""
    known = list(known)
    nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]!r}?" if nearest else f"known are {', '.join(map(repr, known))}"
    return f"unknown {what} {key!r}; {hint}"


def section_problems(error: ValidationError) -> str:
    """Return what is wrong in a configuration as one line: where each problem stands, and what it is."""
    lines = []
    places = [problem["loc"] for problem in error.errors()]
    for problem in error.errors():
        # An entry that is wrong is missing from its list, which is no second mistake.
        if any(_is_inside(place, problem["loc"]) for place in places):
            continue
        key = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "union_tag_invalid":
            known = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
            message = unknown_key(problem["ctx"]["tag"], known, what="name")
        lines.append(f"{key}: {message}" if key else message)
    return "; ".join(lines)


def _is_inside(place: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(place) > len(outer) and place[: len(outer)] == outer
