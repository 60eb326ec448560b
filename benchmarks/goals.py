"""What training set out to do, and which of it holds by the figures of `invoke bench` and of the run in dvc.lock."""

import statistics
from typing import Any

from benchmarks import seeds


def table(measured: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    """Goal by goal, in Markdown.

    Args:
        measured: benchmarks/results/*.json, by name.
        evaluation: the metrics of the run in dvc.lock.
    """
    training, overhead, preparing = measured["training"], measured["overhead"], measured["preparing"]
    recipes = {name: list(recipe["runs"].values()) for name, recipe in measured["seeds"]["recipes"].items()}
    fast, shared, quality = recipes["fast"], recipes["shared"], recipes["quality"]
    alone = [run["accuracy"] for run in fast]
    of_theirs = mean(fast, "seconds") / mean(recipes[seeds.BASELINE], "seconds")
    epochs = training["epochs"] * training["epoch"]["ours"] / training["epoch"]["baseline"]
    price = training["epoch"]["reproducible"] / training["epoch"]["ours"]
    idle, apart, sweep = training["nothing_to_do"], measured["together"]["apart"], measured["sweep"]
    gained = sweep["one_by_one"] / sweep["side_by_side"]

    def row(goal: str, holds: bool | None, told: str, by: str) -> str:
        verdict = {True: "met: ", False: "**missed**: ", None: ""}[holds]
        return f"| {goal} | {verdict}{told} | {by} |"

    return [
        "| goal | measured | by |",
        "|---|---|---|",
        row(
            "94.0 % of the test split in the time of one epoch of the course project's ResNet-18, mean of five seeds",
            mean(fast, "accuracy") >= 0.94 and of_theirs <= 1 and len(fast) >= 5,
            f"{mean(fast, 'accuracy'):.2%} in {of_theirs:.2f} of it",
            "`seeds`",
        ),
        row("`dvc repro`: 94.5 %", evaluation["accuracy"] >= 0.945, f"{evaluation['accuracy']:.2%}", "`dvc repro`"),
        row(
            "with at most 500,000 parameters, within three epochs of theirs",
            training["parameters"] <= 500_000 and epochs <= 3,
            f"{training['parameters']:,}, {epochs:.1f} epochs ({training['dtype']})",
            "`training`",
        ),
        row(
            "a larger network, at most 1 million parameters: 95.5 %",
            mean(quality, "accuracy") >= 0.955 and quality[0]["parameters"] <= 1_000_000,
            f"{mean(quality, 'accuracy'):.2%} with {quality[0]['parameters']:,}; seeds: {len(quality)}",
            "`seeds`",
        ),
        row(
            "one data-centre GPU: 94.0 % in 3 s, 95.5 % in 30 s, 60 % of its bf16 convolution rate",
            None,
            "open: there was none. The code was run on CPUs alone, and nothing here measures a GPU's convolution rate",
            "",
        ),
        row(
            "pictures and augmentation: at most 10 % of a step",
            training["feeding"] <= 0.1,
            f"{training['feeding']:.1%}",
            "`training`",
        ),
        row(
            "dvclive, progress, checkpoints: at most 2 %",
            overhead["around"] <= 0.02,
            f"{overhead['around']:.1%}",
            "`overhead`",
        ),
        row(
            "the first step 3 s after the start",
            overhead["first_step"] <= 3,
            f"{overhead['first_step']:.1f} s, of which `import torch` takes {overhead['import_torch']:.1f}",
            "`overhead`",
        ),
        row(
            "`dvc repro` with nothing to do: 1.3 times `dvc --version` and hashing",
            idle["dvc repro"] <= 1.3 * idle["dvc --version"],
            f"{idle['dvc repro']:.1f} s to {idle['dvc --version']:.1f}. A single stage that does nothing takes DVC "
            f"{idle['least']:.1f} s",
            "`training`",
        ),
        row(
            "prepare: 70,000 pictures in 2 s, 5,000 small PNGs a second",
            preparing["idx_seconds"] <= 2 and preparing["png_a_second"] >= 5000,
            f"{preparing['idx_seconds']:.1f} s, {preparing['png_a_second']:,}",
            "`preparing`",
        ),
        row("memory of prepare flat", None, f"{grown(measured['scale']['rows']):.0f} bytes a picture", "`scale`"),
        row(
            "one process and two: losses within 1e-5 of each other for 50 steps",
            max(apart) <= 1e-5 and len(apart) >= 50,
            f"{apart[0]:.1e} at the first, {max(apart):.1e} within {len(apart)}",
            "`together`",
        ),
        row(
            "accuracy of one process and two within the spread of seeds",
            abs(mean(shared, "accuracy") - statistics.mean(alone)) <= 2 * statistics.stdev(alone),
            f"{mean(shared, 'accuracy'):.2%} by two; seeds: {len(shared)}; {statistics.mean(alone):.2%} ± "
            f"{statistics.stdev(alone):.2%} by one",
            "`seeds`",
        ),
        row(
            "one process that dies ends the others within 30 s",
            None,
            "a test kills each, on one machine and on another node",
            "`tests/stages/test_together.py`",
        ),
        row(
            f"{sweep['points']} points of a sweep faster than one after the other",
            gained > 1,
            "its figures, and what they lack, stand [below](#a-grid-side-by-side)",
            "`sweep`",
        ),
        row("`precision: reproducible` for less than 1.5 times the time", price < 1.5, f"{price:.2f}", "`training`"),
    ]


def mean(runs: list[dict[str, Any]], figure: str) -> float:
    """Of a recipe's runs."""
    return statistics.mean(run[figure] for run in runs)


def grown(rows: list[dict[str, Any]]) -> float:
    """Bytes by which prepare's memory grows with each picture."""
    first, last = rows[0], rows[-1]
    return float((last["prepare_mib"] - first["prepare_mib"]) * 2**20 / (last["count"] - first["count"]))
