"""What training reaches over seeds, and in what time, beside one epoch of the course project's recipe.

Every run is `train` as the stage calls it, in a process of its own; its network sees the test split once, one pass a
picture. Seconds are those of the epochs' steps, as for the baseline. On two cores all of it takes hours: a run that is
in RESULTS is not made again unless pictures, params, code, torch or the machine are others, and a stopped one goes on
from its last epoch.
"""

import csv
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.training import BASELINE_BATCH, baseline
from deploy.verify import machine
from stages import batches, params, train
from stages.evaluate import outputs
from stages.network import load
from stages.stage import StageError, read_json, sha256, write_json

RESULTS = Path("benchmarks/results/seeds.json")
PREPARED = Path("data/prepared")
WORK = Path(".atelier/seeds")
BASELINE = "baseline"
# The changes to params.yaml of each recipe, and with how many seeds it runs.
RECIPES: dict[str, tuple[dict[str, Any], int]] = {
    "fast": ({"epochs": 7}, 5),
    "default": ({}, 5),
    "quality": ({"width": 160, "epochs": 40, "augment": "erase"}, 1),
}


def once_through() -> None:
    """Train the baseline for one epoch; print its seconds and its accuracy on the test split as JSON."""
    torch.manual_seed(0)
    device = torch.device("cpu")
    data, test = (batches.read_split(PREPARED, name, device) for name in ("train", "test"))
    network, step = baseline(data)
    started = time.perf_counter()
    for number in tqdm(range(len(data) // BASELINE_BATCH), BASELINE, leave=False):
        step(number)
    took = time.perf_counter() - started
    network.eval()
    with torch.no_grad():
        right = sum(int((network(x.unsqueeze(1).float() / 255).argmax(1) == y).sum()) for x, y in test.in_order())
    print(json.dumps({"accuracy": right / len(test), "seconds": round(took, 1)}))


def trained(recipe: str, seed: int) -> None:
    """Train a recipe with a seed; print its seconds, accuracy on the test split and parameters as JSON."""
    values = params.load().model_dump() | RECIPES[recipe][0] | {"seed": seed, "devices": 1}
    folder = WORK / f"{recipe}-{seed}"
    file, speed = folder / "network.pt", folder / "speed"
    train.train(PREPARED, file, folder / "training", speed, **{k: values[k] for k in params.names(train.train)})
    test = batches.read_split(PREPARED, "test", torch.device("cpu"))
    network, _ = load(str(file))
    _, scores, labels = outputs(network, test)
    with (speed / "plots/metrics/pictures_per_second.tsv").open(encoding="utf-8", newline="") as lines:
        rates = [float(row["pictures_per_second"]) for row in csv.DictReader(lines, delimiter="\t")]
    count = sum(read_json(PREPARED / "meta.json")["counts"]["train"].values())
    seen = count // values["batch_size"] * values["batch_size"]
    found = {
        "accuracy": float((scores.argmax(1) == labels).mean()),
        # Of all epochs: a run that was killed as one ended has no rate of it.
        "seconds": round(values["epochs"] * statistics.mean(seen / rate for rate in rates), 1),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    print(json.dumps(found))


def made_of() -> str:
    """What the figures depend on besides the recipe and the seed: pictures, params, code, machine and torch."""
    code = sha256(*train.CODE)
    values = {k: v for k, v in params.load().model_dump().items() if k in params.names(train.train)}
    del values["seed"], values["devices"]
    return json.dumps([read_json(PREPARED / "meta.json")["sha256"], values, code, machine()])


def child(call: str) -> dict[str, Any]:
    """What a function of this module prints last, called in a process of its own; the rest is shown."""
    command = [sys.executable, "-c", f"from benchmarks import seeds; seeds.{call}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        last = ""
        for line in process.stdout:
            if last:
                print(last, end="", flush=True)
            last = line
    if process.returncode:
        print(last, end="")
        sys.exit(f"seeds: {call} failed")
    found: dict[str, Any] = json.loads(last)
    return found


def main() -> None:
    """Make the runs that are missing, write RESULTS after each, print the table."""
    if not PREPARED.exists():
        sys.exit("seeds: data/prepared is missing: run `uv run dvc repro`")
    try:
        inputs = made_of()
        found: dict[str, Any] = read_json(RESULTS) if RESULTS.exists() else {}
    except StageError as error:
        sys.exit(f"seeds: {error}")
    if found.get("inputs") != inputs:
        found = {"inputs": inputs, "machine": machine()}
    todo = [(BASELINE, 0, "once_through()")]
    for recipe, (_, count) in RECIPES.items():
        todo += [(recipe, seed, f"trained({recipe!r}, {seed})") for seed in range(1, count + 1)]
    for name, seed, call in todo:
        changes = RECIPES[name][0] if name in RECIPES else {}
        entry = found.get(name)
        if not entry or entry["changes"] != changes:
            entry = found[name] = {"changes": changes, "runs": {}}
        if str(seed) not in entry["runs"]:
            print(f"{name}, seed {seed}", flush=True)
            entry["runs"][str(seed)] = child(call)
            write_json(RESULTS, found)
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """The figures as rows of Markdown."""
    runs = {name: list(found[name]["runs"].values()) for name in (BASELINE, *RECIPES) if name in found}
    epoch = runs[BASELINE][0]["seconds"]
    rows = [f"| the course project's ResNet-18, one epoch | {runs[BASELINE][0]['accuracy']:.2%} | {epoch:.0f} s | 1 |"]
    for name in list(runs)[1:]:  # all but the baseline, in the order of RECIPES
        changes = " ".join(f"-S {key}={value}" for key, value in found[name]["changes"].items())
        exact = [run["accuracy"] for run in runs[name]]
        took = statistics.mean(run["seconds"] for run in runs[name])
        spread = f" ± {statistics.stdev(exact):.2%}" if len(exact) > 1 else ""
        seeds = f"{len(exact)} seeds" if len(exact) > 1 else "one seed"
        rows.append(
            f"| {f'`{changes}`' if changes else 'params.yaml as it is'}, {runs[name][0]['parameters']:,} parameters, "
            f"{seeds} | {statistics.mean(exact):.2%}{spread} | {took:.0f} s | {took / epoch:.1f} |"
        )
    return [f"| {found['machine']} | test split | its steps | epochs of theirs |", "|---|---|---|---|", *rows]


if __name__ == "__main__":
    main()
