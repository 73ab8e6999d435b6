from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crossrank.models.packed_attention import attend, can_pack, current_packing, pack, packed, single_positions


def by_hand(query_TAD, key_TGD, value_TGD, *, is_causal, window):
    """Attention of one sequence, one query and head at a time; queries stand at the last positions of the keys."""
    num_queries, num_heads, size = query_TAD.shape
    num_keys, shared = len(key_TGD), num_heads // key_TGD.shape[1]
    context = torch.zeros_like(query_TAD)
    for t in range(num_queries):
        at = num_keys - num_queries + t
        seen = [
            k for k in range(num_keys)
            if not (is_causal and k > at) and (window is None or abs(at - k) < window)
        ]  # fmt: skip
        for head in range(num_heads):
            weights = torch.softmax(key_TGD[seen, head // shared] @ query_TAD[t, head] / size**0.5, 0)
            context[t, head] = weights @ value_TGD[seen, head // shared]
    return context


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    is_causal=st.booleans(),
    window=st.none() | st.integers(1, 4),
    heads=st.sampled_from([(2, 2), (4, 2), (3, 1)]),
)
def test_every_sequence_sees_itself_alone(lengths, is_causal, window, heads):
    generator = torch.Generator().manual_seed(sum(lengths))
    query, key, value = (torch.randn(sum(lengths), n, 8, generator=generator) for n in (heads[0], heads[1], heads[1]))
    packing = pack(lengths)
    rows = zip(*(torch.split(x, lengths) for x in (query, key, value)), strict=True)
    options = {"is_causal": is_causal, "window": window}
    expected = torch.cat([by_hand(*row, **options) for row in rows])
    torch.testing.assert_close(attend(query, key, value, packing, packing, **options), expected, atol=1e-5, rtol=0)
    last = packing.last.long()
    alone = attend(query[last], key, value, single_positions(packing), packing, **options)
    torch.testing.assert_close(alone, expected[last], atol=1e-5, rtol=0)


def test_positions_start_anew_in_every_sequence():
    packing = pack([3, 1, 2])
    assert packing.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert (packing.first.tolist(), packing.last.tolist()) == ([0, 3, 4], [2, 3, 5])
    assert (packing.bounds.tolist(), packing.longest) == ([0, 3, 4, 6], 3)


def test_threads_have_their_own_packing():
    def inside(length):
        with packed(pack([length])):
            return current_packing().longest

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(inside, range(1, 30))) == list(range(1, 30))
    with pytest.raises(LookupError):
        current_packing()


def test_where_packing_pays():
    assert can_pack(torch.device("cpu"), torch.float32)
    assert not can_pack(torch.device("cuda"), torch.float32)
    assert not can_pack(torch.device("mps"), torch.float16)


@pytest.mark.gpu
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("heads", [(4, 4), (8, 2)])
def test_the_cuda_kernel_is_the_cpu_one(is_causal, window, heads):
    lengths = [5, 1, 130, 17]
    packing, on_gpu = pack(lengths), pack(lengths, "cuda")
    query, key, value = (torch.randn(sum(lengths), n, 64) for n in (heads[0], heads[1], heads[1]))
    options = {"is_causal": is_causal, "window": window}
    expected = attend(query, key, value, packing, packing, **options)
    half = [x.cuda().bfloat16() for x in (query, key, value)]
    torch.testing.assert_close(attend(*half, on_gpu, on_gpu, **options).float().cpu(), expected, atol=3e-2, rtol=0)
    last = on_gpu.last.long()
    alone = attend(half[0][last], *half[1:], single_positions(on_gpu), on_gpu, **options)
    torch.testing.assert_close(alone.float().cpu(), expected[packing.last.long()], atol=3e-2, rtol=0)
