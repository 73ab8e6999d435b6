import html
from unittest.mock import MagicMock

import numpy as np
import pytest

from crossrank.evaluation import plots


@pytest.fixture
def areas(monkeypatch):
    """The areas that a plot fills, as x, heights and how the steps go; nothing is drawn."""
    axes = MagicMock()
    monkeypatch.setattr(plots, "draw", lambda paint, **_: paint(axes))

    def of(differences):
        axes.reset_mock()
        plots.sorted_differences(np.array(differences), label="difference")
        return [(call.args[0], call.args[2], call.kwargs["step"]) for call in axes.fill_between.call_args_list]

    return of


@pytest.mark.parametrize(("won", "lost"), [(1, 1), (3, 1), (2, 5)])
def test_every_query_is_as_wide_as_the_others(areas, won, lost):
    found = areas([0.5] * won + [0.0] * 4 + [-0.25] * lost)
    for (edges, heights, step), count in zip(found, (won, lost), strict=True):
        print(edges, heights)
        assert step == "post"
        # A height reaches from its edge to the next one; the last is there to end the one before.
        assert np.diff(edges)[heights[:-1] != 0].sum() == count


def test_more_queries_than_dots_do_not_make_the_file_large(areas):
    for edges, heights, _ in areas(np.linspace(1, -1, 50_000)):
        assert len(edges) == len(heights) < 700
        assert (edges[0], edges[-1]) == (0, 50_000)


@pytest.mark.parametrize("name", ["costs in $", "$x_{$ & <b>", "日本語"])
def test_a_name_is_text_whatever_stands_in_it(name, recwarn):
    for svg in (
        plots.forest([(name, 0.1, (0.0, 0.2))], label=name),
        plots.sorted_differences(np.array([0.5, -0.5]), label=name),
        plots.curves({name: [(0.0, 0.5), (1.0, 0.6)]}, x_label=name, y_label=name),
        plots.scatter([(name, 10.0, 0.5)], [name], x_label=name, y_label=name),
    ):
        assert html.escape(name, quote=False) in svg
    assert not recwarn.list
