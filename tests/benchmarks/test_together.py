"""Losses of one process and of two: what is compared, and what is said of it."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks import together
from tests.conftest import ROOT, TRAIN, Run


@pytest.mark.slow
def test_the_losses_of_a_run_are_compared_step_by_step(fresh: Run) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | TRAIN
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    together.RESULTS.parent.mkdir(parents=True)

    together.main()

    found = json.loads(together.RESULTS.read_text(encoding="utf-8"))
    for apart in found["apart"], found["apart_by_threads"]:
        assert len(apart) > 5  # an epoch of few pictures
        assert 0 <= apart[0] < 1e-4  # nothing is learned yet: only rounding
    assert not any(Path(name).exists() for name in ("models", "losses.json"))


def test_the_table_says_how_far_apart_they_are_at_most() -> None:
    found = {"machine": "a machine", "processes": 2, "apart": [1e-6, 3e-5, 2e-5, 1e-4]}
    found["apart_by_threads"] = [0.0, 2e-6, 1e-6, 4e-6]
    head, _, *rows = together.table(found)
    assert head.endswith(" | one process and 2, a thread each | one process, with one thread and with 2 |")
    assert rows == [
        "| in the first step | 1.0e-06 | 0.0e+00 |",
        "| in the first 2 steps | 3.0e-05 | 2.0e-06 |",
        "| in the first 4 steps | 1.0e-04 | 4.0e-06 |",
    ]
