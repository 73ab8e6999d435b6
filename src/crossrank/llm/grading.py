"""Grades of relevance from 0 to 3, each with a reason: labels, and the pointwise way to rank."""

from __future__ import annotations

from functools import partial

from crossrank.llm.answers import Grade, read_grade
from crossrank.llm.asking import Asker
from crossrank.llm.client import Meter, Prices, count_tokens
from crossrank.llm.prompts import grade_prompt
from crossrank.types import Document, Usage

# What an answer of this form comes to, for estimates: two sentences and three numbers.
_ANSWER_TOKENS = 90


class Grader:
    """A language model as an assessor of relevance, on the scale of UMBRELA: 2 and 3 count as relevant.

    Language models are more generous than people: check some labels by hand (`crossrank label agreement`).

    Args:
        asker: The language model, and how much of a passage it reads.
    """

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    def grade(self, query: str, document: Document, meter: Meter) -> Grade | None:
        """Return the grade of a document, or None where no answer could be read; `meter` says why.

        Raises:
            ChatError: If the server gives no answer.
        """
        build = partial(grade_prompt, query, document)
        subject = f"document {document.id!r}" if document.id else "a document"
        return self._asker.ask(build, read_grade, meter, subject=subject)

    def estimate(self, query: str, document: Document, prices: Prices | None) -> Usage:
        """Return about what grading a document will take, before anything is sent."""
        tokens = count_tokens(grade_prompt(query, document, self._asker.writer()).messages)
        cost = prices.cost(tokens, _ANSWER_TOKENS) if prices else None
        return Usage(calls=1, input_tokens=tokens, output_tokens=_ANSWER_TOKENS, estimated_calls=1, cost_usd=cost)
