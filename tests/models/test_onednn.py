import subprocess
import sys
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from crossrank.models import onednn


@pytest.mark.parametrize("shape", [(1, 48), (5, 48), (16, 48), (1500, 48), (3, 7, 48), (0, 48)])
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_it_is_the_linear_layer_of_torch(shape, gelu, has_bias):
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(20, 48, generator=generator), torch.randn(20, generator=generator)
    x = torch.randn(shape, generator=generator)
    expected = F.linear(x, weight, bias if has_bias else None)
    expected = F.gelu(expected) if gelu else expected
    given = onednn.make_linear(weight, bias if has_bias else None, gelu=gelu)(x)
    torch.testing.assert_close(given, expected, atol=2e-5, rtol=0)


def test_rows_that_do_not_stand_together_in_memory():
    weight, x = torch.randn(4, 6), torch.randn(6, 10).t()
    torch.testing.assert_close(onednn.make_linear(weight, None)(x), F.linear(x, weight))


@pytest.mark.parametrize("available", [True, False])
def test_a_model_keeps_its_output_without_the_original_layers(monkeypatch, available):
    monkeypatch.setattr(onednn, "is_available", lambda: available)
    model = nn.Sequential(nn.Linear(8, 16), nn.Sequential(nn.Linear(16, 16, bias=False), nn.Tanh()), nn.Linear(16, 1))
    x = torch.randn(3, 8)
    with torch.inference_mode():
        expected = model(x)
        onednn.replace_linears(model)
        torch.testing.assert_close(model(x), expected)
    assert any(type(module) is nn.Linear for module in model.modules()) is not available


def test_the_function_does_not_keep_the_weight():
    weight = torch.randn(4, 6)
    kept = weakref.ref(weight)
    linear = onednn.make_linear(weight, None)
    del weight
    assert kept() is None
    assert linear(torch.ones(1, 6)).shape == (1, 4)


def test_float64_stays_with_torch():
    weight, x = torch.randn(4, 6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64)
    assert torch.equal(onednn.make_linear(weight, None)(x), F.linear(x, weight))


def test_memory_does_not_grow_with_the_numbers_of_rows_met():
    code = """
import torch
from crossrank.models.onednn import make_linear

def resident_megabytes():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20

torch.set_num_threads(1)
linear = make_linear(torch.randn(1152, 384), torch.randn(1152))
with torch.inference_mode():
    for rows in range(16, 513, 16):
        linear(torch.randn(rows, 384))
    before = resident_megabytes()
    for rows in range(257, 512):
        linear(torch.randn(rows, 384))
print(resident_megabytes() - before)
"""
    if sys.platform != "linux":
        pytest.skip("reads /proc")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    # 400 MB where every number of rows is a shape of its own.
    assert float(run.stdout) < 40
