"""Runs over seeds: what is kept, what is made anew, what is said of them."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmarks import seeds
from benchmarks.training import Step, baseline
from stages import batches
from tests.conftest import ROOT, TRAIN, Run


@pytest.fixture
def made(fresh: Run, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that were asked for, in a folder with prepared sketches; they happen in this process."""
    write_params()
    seeds.RESULTS.parent.mkdir(parents=True)
    monkeypatch.setattr(seeds, "BASELINE_SEEDS", 2)
    monkeypatch.setattr(seeds, "RECIPES", {"fast": ({"epochs": 1}, 2), "wide": ({"width": 24, "epochs": 1}, 1)})
    calls: list[str] = []

    def child(call: str) -> dict[str, Any]:
        calls.append(call)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            eval(f"seeds.{call}", {"seeds": seeds})  # what a process of its own would run
        found: dict[str, Any] = json.loads(said.getvalue().splitlines()[-1])
        return found

    monkeypatch.setattr(seeds, "child", child)
    return calls


def write_params(**changes: object) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | TRAIN | changes
    Path("params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def test_every_run_is_made_once_and_only_what_is_missing_again(made: list[str]) -> None:
    seeds.main()
    ours = ["trained('fast', 1)", "trained('wide', 1)", "trained('fast', 2)"]
    everything = ["once_through(0)", "once_through(1)", *ours]
    assert made == everything
    found = json.loads(seeds.RESULTS.read_text(encoding="utf-8"))
    runs = {name: entry["runs"] for name, entry in found["recipes"].items()}
    assert runs["wide"]["1"]["parameters"] > runs["fast"]["1"]["parameters"]
    assert all(0.1 < run["accuracy"] <= 1 for run in runs["fast"].values())

    made.clear()
    del runs["fast"]["2"]
    seeds.RESULTS.write_text(json.dumps(found), encoding="utf-8")
    seeds.main()
    assert made == ["trained('fast', 2)"]

    made.clear()
    write_params(lr=0.02)
    seeds.main()
    assert made == ours  # of which the baseline takes nothing


def test_a_recipe_that_sets_what_params_change_is_not_made_again(
    made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeds, "RECIPES", {"fast": ({"epochs": 1, "lr": 0.01}, 1), "wide": ({"width": 24}, 1)})
    seeds.main()
    made.clear()
    write_params(lr=0.02)
    seeds.main()
    assert made == ["trained('wide', 1)"]


def test_a_baseline_of_another_recipe_is_made_again(made: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def child(call: str) -> dict[str, Any]:
        asked.append(call)
        return {"accuracy": 0.5, "seconds": 1.0, "parameters": 1}

    def other(data: batches.Split) -> tuple[torch.nn.Module, Step]:
        return baseline(data)

    monkeypatch.setattr(seeds, "child", child)
    seeds.main()
    asked.clear()
    monkeypatch.setattr(seeds, "baseline", other)
    seeds.main()
    assert asked == ["once_through(0)", "once_through(1)"]


def test_the_accuracy_is_that_of_the_network_that_was_trained(made: list[str], fresh: Run) -> None:
    from stages.evaluate import evaluate

    found = {}
    for seed in (1, 2):
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            seeds.trained("fast", seed)
        found[seed] = json.loads(said.getvalue().splitlines()[-1])["accuracy"]
        network = seeds.WORK / f"fast-{seed}/network.pt"
        evaluate(fresh.prepared, network, fresh.reports / "evaluation", seed=1, coverage=0.9)
        metrics = json.loads((fresh.reports / "evaluation/metrics.json").read_text(encoding="utf-8"))
        assert metrics["accuracy"] == pytest.approx(found[seed], abs=1e-6)


@pytest.mark.slow
def test_a_recipe_can_ask_for_two_processes(
    fresh: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A real recipe: the processes import the module anew, and see nothing of what a test puts into it."""
    write_params()
    monkeypatch.setitem(seeds.RECIPES, "alone", (seeds.RECIPES["shared"][0] | {"devices": 1}, 1))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    seeds.trained("shared", 1)
    said = capfd.readouterr().out
    assert ", 2 processes\n" in said
    shared = json.loads(said.splitlines()[-1])
    seeds.trained("alone", 1)
    said = capfd.readouterr().out
    assert " processes\n" not in said
    alone = json.loads(said.splitlines()[-1])
    assert shared["parameters"] == alone["parameters"]
    assert shared["accuracy"] == pytest.approx(alone["accuracy"], abs=0.1)
    assert seeds.made_of("shared") != seeds.made_of("alone")


def test_the_table_says_how_many_seeds_there_are_and_what_a_recipe_changes() -> None:
    runs = {str(n): {"accuracy": 0.94 + n / 1000, "seconds": 300.0 + n, "parameters": 1000} for n in range(3)}
    recipes = {
        "baseline": {"changes": {}, "runs": {"1": {"accuracy": 0.87, "seconds": 200.0, "parameters": 5000}}},
        "fast": {"changes": {"epochs": 7}, "runs": runs},
        "quality": {"changes": {"width": 160}, "runs": {"0": runs["0"]}},
    }
    assert seeds.table({"machine": "a machine", "recipes": recipes})[2:] == [
        "| the course project's ResNet-18, one epoch, 5,000 parameters, one seed | 87.00% | 200 s | 1.00 |",
        "| `-S epochs=7`, 1,000 parameters, 3 seeds | 94.10% ± 0.10% | 301 s (300 to 302) | 1.50 |",
        "| `-S width=160`, 1,000 parameters, one seed | 94.00% | 300 s | 1.50 |",
    ]
