"""What training reaches over seeds, and in what time, beside one epoch of the course project's recipe.

Every run is `train` as the stage calls it, in processes of its own; its network sees the test split once, one pass a
picture. Seconds are those of the epochs' steps, as for the baseline; the recipes take turns, since a machine is faster
at one hour than at another. On two cores all of it takes hours: a run that is in RESULTS is not made again unless its
params, the pictures, the code, torch or the machine are others, and a stopped one goes on from its last epoch.
"""

import csv
import hashlib
import inspect
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from benchmarks.training import BASELINE_BATCH, baseline, wait
from deploy.verify import machine
from stages import batches, params, train, world
from stages.evaluate import outputs
from stages.launch import launch
from stages.network import load
from stages.stage import StageError, read_json, sha256, write_json

RESULTS = Path("benchmarks/results/seeds.json")
PREPARED = Path("data/prepared")
WORK = Path(".atelier/seeds")
BASELINE, BASELINE_SEEDS = "baseline", 3
# The changes to params.yaml of each recipe, and with how many seeds it runs.
FAST = {"epochs": 6, "augment": "flip", "lr": 0.01}
RECIPES: dict[str, tuple[dict[str, Any], int]] = {
    "fast": (FAST, 5),
    "shared": (FAST | {"devices": 2}, 1),
    "quality": ({"width": 160, "epochs": 30, "augment": "erase"}, 1),
}


def once_through(seed: int) -> None:
    """Train the baseline for one epoch; print its seconds and its accuracy on the test split as JSON."""
    torch.manual_seed(seed)
    device, _ = train.choose("fp32")
    data, test = (batches.read_split(PREPARED, name, device) for name in ("train", "test"))
    network, step = baseline(data)
    started = time.perf_counter()
    for number in tqdm(range(len(data) // BASELINE_BATCH), BASELINE, leave=False):
        step(number)
    wait()
    took = time.perf_counter() - started
    network.eval()
    with torch.no_grad():
        right = sum(int((network(x.unsqueeze(1).float() / 255).argmax(1) == y).sum()) for x, y in test.in_order())
    found = {"accuracy": right / len(test), "seconds": round(took, 1), "parameters": parameters(network)}
    print(json.dumps(found))


def parameters(network: torch.nn.Module) -> int:
    """How many numbers the network learns."""
    return sum(p.numel() for p in network.parameters())


def recipe(name: str) -> dict[str, Any]:
    """All params of a recipe, by one process unless it says otherwise."""
    return params.load().model_dump() | {"devices": 1} | RECIPES[name][0]


def trained(name: str, seed: int) -> None:
    """Train a recipe with a seed; print its seconds, accuracy on the test split and parameters as JSON.

    A recipe with several devices is trained by as many processes, which this one starts.
    """
    values = recipe(name) | {"seed": seed}
    place = world.find(values["devices"])
    if not place.started:
        launch([sys.executable, "-c", f"from benchmarks import seeds; seeds.trained({name!r}, {seed})"], place)
        return
    folder = WORK / f"{name}-{seed}"
    file, speed = folder / "network.pt", folder / "speed"
    train.train(PREPARED, file, folder / "training", speed, **{k: values[k] for k in params.names(train.train)})
    if not place.first:
        return
    test = batches.read_split(PREPARED, "test", torch.device("cpu"))  # where `load` puts a network
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
        "parameters": parameters(network),
    }
    print(json.dumps(found))


def made_of(name: str) -> str:
    """What the figures of a recipe depend on besides the seed: pictures, params, code, machine and torch."""
    made: Any = hashlib.sha256(f"{inspect.getsource(baseline)}{BASELINE_BATCH}".encode()).hexdigest()
    if name != BASELINE:  # which reads no params
        made = {k: v for k, v in recipe(name).items() if k in params.names(train.train)}
        del made["seed"]
        if made["devices"] == 1:  # left out, so that figures from before `devices` was a choice still match
            del made["devices"]
    return json.dumps([read_json(PREPARED / "meta.json")["sha256"], made, sha256(*train.CODE), machine()])


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
        inputs = {name: made_of(name) for name in (BASELINE, *RECIPES)}
        kept: dict[str, Any] = read_json(RESULTS)["recipes"] if RESULTS.exists() else {}
    except StageError as error:
        sys.exit(f"seeds: {error}")
    kept = {name: entry for name, entry in kept.items() if entry["inputs"] == inputs.get(name)}
    found = {"machine": machine(), "recipes": kept}
    todo = [(seed, BASELINE, f"once_through({seed})") for seed in range(BASELINE_SEEDS)]
    for name, (_, count) in RECIPES.items():
        todo += [(seed, name, f"trained({name!r}, {seed})") for seed in range(1, count + 1)]
    for seed, name, call in sorted(todo, key=lambda run: run[0]):
        entry = kept.setdefault(name, {"inputs": inputs[name], "runs": {}})
        entry["changes"] = RECIPES[name][0] if name in RECIPES else {}
        if str(seed) not in entry["runs"]:
            print(f"{name}, seed {seed}", flush=True)
            entry["runs"][str(seed)] = child(call)
            write_json(RESULTS, found)
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """The figures as rows of Markdown."""
    recipes = found["recipes"]
    epoch = statistics.mean(run["seconds"] for run in recipes[BASELINE]["runs"].values())
    rows = []
    for name in (BASELINE, *(name for name in RECIPES if name in recipes)):
        runs = list(recipes[name]["runs"].values())
        changes = " ".join(f"-S {key}={value}" for key, value in recipes[name]["changes"].items())
        what = "the course project's ResNet-18, one epoch" if name == BASELINE else f"`{changes}`"
        exact = [run["accuracy"] for run in runs]
        took = [run["seconds"] for run in runs]
        seeds = f"{len(runs)} seeds" if len(runs) > 1 else "one seed"
        spread = f" ± {statistics.stdev(exact):.2%}" if len(runs) > 1 else ""
        between = f" ({min(took):.0f} to {max(took):.0f})" if len(runs) > 1 else ""
        rows.append(
            f"| {what}, {runs[0]['parameters']:,} parameters, {seeds} | {statistics.mean(exact):.2%}{spread} "
            f"| {statistics.mean(took):.0f} s{between} | {statistics.mean(took) / epoch:.2f} |"
        )
    return [f"| {found['machine']} | test split | its steps | epochs of theirs |", "|---|---|---|---|", *rows]


if __name__ == "__main__":
    main()
