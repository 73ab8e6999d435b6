import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vision.py"


def test_the_page_cache_changes_the_speed_and_not_the_scores(tmp_path):
    sizes = ["--queries", "6", "--pages", "2", "--vision-layers", "2", "--language-layers", "1", "--repeat", "1"]
    command = [sys.executable, str(SCRIPT), *sizes, "--device", "cpu", "--json", str(tmp_path / "figures.json")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    figures = json.loads((tmp_path / "figures.json").read_text())
    print(figures)
    assert figures["largest_score_difference"] < 1e-4
    assert figures["speedup"] > 1.2
