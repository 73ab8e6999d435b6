from __future__ import annotations

from collections.abc import Callable

import pytest

from crossrank.data.click_logs import Impression, ResultPage


@pytest.fixture(scope="session")
def page() -> Callable[..., ResultPage]:
    """Documents d0, d1, ... from the top; a number is a click with that dwell time in seconds, None is no click."""

    def make(*clicks: float | None, query: str = "mars") -> ResultPage:
        shown = [Impression(f"d{i}", i + 1, dwell is not None, dwell) for i, dwell in enumerate(clicks)]
        return ResultPage(query, tuple(shown))

    return make
