"""Answers to values, with whatever is wrong in them repaired and named; no answer is ever trusted to keep the form."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

Value = TypeVar("Value", covariant=True)

_THOUGHTS = re.compile(r"^.*</think>|<think>.*$", re.DOTALL)
_DECODER = json.JSONDecoder()


class Repaired(NamedTuple, Generic[Value]):
    """What an answer says, and how often it had to be repaired, by kind of fault."""

    value: Value
    faults: dict[str, int]


class Grade(NamedTuple):
    """How relevant a document is, 0 to 3, and why."""

    value: int
    reason: str


def read_ranking(text: str, count: int) -> Repaired[list[int]] | None:
    """Return the order that an answer states, as positions from 0, always a permutation of `count` of them.

    Ids that come again or do not exist are dropped; ids that are missing follow in the order that came in.

    Args:
        text: The answer: JSON, `[2] > [1]`, or ids in prose, in digits of any script.
        count: Number of passages; their ids are 1 to `count`.

    Returns:
        The order with `prose`, `duplicate`, `unknown` and `missing` counted; None where no order can be made out.

    Source: the faults are those that RankGPT (Sun et al., EMNLP 2023) and RankLLM name.
    """
    found, clean = _stated_ids(_answer(text), count)
    known = [number for number in found if 1 <= number <= count]
    if not known:
        return None
    order = list(dict.fromkeys(known))
    missing = [number for number in range(1, count + 1) if number not in set(order)]
    faults = {
        "prose": int(not clean),
        "unknown": len(found) - len(known),
        "duplicate": len(known) - len(order),
        "missing": len(missing),
    }
    return Repaired([number - 1 for number in order + missing], _counted(faults))


def read_choice(text: str, count: int) -> Repaired[int] | None:
    """Return the position, from 0, of the passage that an answer chooses; None where none can be made out."""
    answer = _answer(text)
    value, clean = _field(answer, "best")
    number = _whole(value[0] if isinstance(value, list) and value else value)
    if number is None:
        numbers = [int(digits) for digits in re.findall(r"\d+", answer)]
        # Several numbers in a sentence are no choice.
        number, clean = (numbers[0] if len(set(numbers)) == 1 else None), False
    if number is None or not 1 <= number <= count:
        return None
    return Repaired(number - 1, _counted({"prose": int(not clean)}))


def read_grade(text: str) -> Repaired[Grade] | None:
    """Return the grade that an answer gives, and its reason; None where there is no grade from 0 to 3."""
    answer = _answer(text)
    value, clean = _field(answer, "grade")
    number = _whole(value)
    if number is None:
        stated = re.findall(r"(?:grade|score)\W{0,5}(\d+)(?![\d.,]*\d)", answer, re.IGNORECASE)
        bare = re.fullmatch(r"\s*(\d)\W*", answer)
        number, clean = int(stated[-1]) if stated else int(bare[1]) if bare else None, False
    if number is None or not 0 <= number <= 3:
        return None
    reason, _ = _field(answer, "reason")
    if not isinstance(reason, str):
        reason = " ".join(answer.split()) if not clean else ""
    return Repaired(Grade(number, reason.strip()), _counted({"prose": int(not clean)}))


def read_queries(text: str, count: int) -> Repaired[list[str]] | None:
    """Return at most `count` queries of an answer, without empty and repeated ones; None where there are none."""
    answer = _answer(text)
    value, clean = _field(answer, "queries")
    if not isinstance(value, list):
        value, clean = _listed_lines(answer), False
    listed = [" ".join(item.split()) for item in value if isinstance(item, str)]
    queries = list({item.casefold(): item for item in reversed(listed) if item}.values())[::-1]
    if not queries:
        return None
    return Repaired(queries[:count], _counted({"prose": int(not clean), "duplicate": len(listed) - len(queries)}))


def _answer(text: str) -> str:
    """Return an answer without its reasoning, and with digits of every form as plain ones."""
    return unicodedata.normalize("NFKC", _THOUGHTS.sub("", text)).strip()


def _stated_ids(answer: str, count: int) -> tuple[list[int], bool]:
    """Return the ids in the order stated, and whether they stood in the form asked for."""
    value, clean = _field(answer, "ranking")
    if isinstance(value, list):
        return [number for item in value if (number := _whole(item)) is not None], clean
    if cut_off := re.search(r"[\"']?ranking[\"']?\s*[:=]\s*\[(.*)", answer, re.DOTALL | re.IGNORECASE):
        return _numbers(cut_off[1]), False
    if bracketed := re.findall(r"\[\s*(\d+)\s*\]", answer):
        return [int(digits) for digits in bracketed], False
    if listed := re.search(r"\[([\d\s,\"']+)", answer):
        return _numbers(listed[1]), False
    if chained := re.search(r"\d+(?:\s*>\s*\d+)+", answer):
        return _numbers(chained[0]), False
    numbers = _numbers(answer)
    # A number or two in prose ("none of the 20 passages") is no order.
    return (numbers if 2 * len({*numbers} & {*range(1, count + 1)}) >= count else []), False


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d{1,9}", text)]


def _field(answer: str, name: str) -> tuple[Any, bool]:
    """Return a field of the first JSON object that has it, and whether the answer was that object alone."""
    for match in re.finditer(r"\{", answer):
        try:
            value, end = _DECODER.raw_decode(answer, match.start())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and name in value:
            return value[name], match.start() == 0 and end == len(answer)
    return None, False


def _whole(value: Any) -> int | None:
    """Return a whole number that stands as such, as a float without fraction, or as text, also as `[3]`."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    found = re.fullmatch(r"\W*(\d{1,9})\W*", value) if isinstance(value, str) else None
    return int(found[1]) if found else None


def _listed_lines(answer: str) -> Sequence[str]:
    """Return the lines of a list with numbers or bullets; prose has neither."""
    return [match[1].strip("\"' ") for match in re.finditer(r"^\s*(?:\d+[.)]|[-*•])\s+(.+)$", answer, re.MULTILINE)]


def _counted(faults: dict[str, int]) -> dict[str, int]:
    return {kind: times for kind, times in faults.items() if times}
