"""Memory while a large source is converted, checked and sampled: bounded, whatever its size."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

NUM_GROUPS = 60_000
# Private memory (not the page cache), above what the imports take; the file holds 140 MB of text.
LIMIT_MB = 100

CODE = """
import sys, threading, time
from crossrank.data.groups.build import open_groups
from crossrank.data.groups.config import parse_data_config

def private_mb():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024

import pyarrow
start, peak, done = private_mb(), 0.0, False

def watch():
    global peak
    while not done:
        peak = max(peak, private_mb())
        time.sleep(0.02)

thread = threading.Thread(target=watch)
thread.start()
groups = open_groups(parse_data_config({"train": [sys.argv[1]], "cache_dir": sys.argv[2]})).train
for index in range(0, len(groups), 7):
    groups.sample(index, epoch=0)
done = True
thread.join()
print(peak - start)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_memory_is_bounded(tmp_path):
    random.seed(0)
    words = [f"word{i}" for i in range(5000)]
    pool = [" ".join(random.choices(words, k=30)) for _ in range(2000)]
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(NUM_GROUPS):
            texts = [f"{random.choice(pool)} {number} {i}" for i in range(8)]
            row = {"query": f"{random.choice(pool)} {number}", "positives": texts[:1], "negatives": texts[1:]}
            file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-c", CODE, str(tmp_path / "a.jsonl"), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    print(f"{float(done.stdout):.0f} MB for {(tmp_path / 'a.jsonl').stat().st_size / 1e6:.0f} MB of rows")
    assert float(done.stdout) < LIMIT_MB
