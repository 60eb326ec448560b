"""The figures in README and docs: of the run in dvc.lock, and of what `invoke bench` measured."""

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks import capacity, drift, goals, overhead, preparing, scale, seeds, sweep, together, training

RESULTS = Path("docs/results.json")
MEASURED = {
    "capacity": capacity.table,
    "drift": drift.table,
    "overhead": overhead.table,
    "preparing": preparing.table,
    "scale": scale.table,
    "seeds": seeds.table,
    "sweep": sweep.table,
    "together": together.table,
    "training": training.table,
}
# In which the tables stand, each between two comments that name it.
PAGES = ("README.md", "docs/capacity.md", "docs/drift.md", "docs/scale.md", "docs/training.md")


def publish() -> None:
    """Write RESULTS, and the tables into PAGES."""
    lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    paths = ("reports/evaluation", "reports/robustness", "reports/export")
    published = {
        # Ties the figures to the run: a test compares these with dvc.lock.
        "md5": {o["path"]: o["md5"] for s in lock["stages"].values() for o in s["outs"] if o["path"] in paths},
        "evaluation": json.loads(Path("reports/evaluation/metrics.json").read_text(encoding="utf-8")),
        "robustness": json.loads(Path("reports/robustness/metrics.json").read_text(encoding="utf-8")),
        "export": json.loads(Path("reports/export/metrics.json").read_text(encoding="utf-8")),
    }
    RESULTS.write_text(json.dumps(published, indent=2) + "\n", "utf-8", newline="\n")
    made = tables(published)
    for page in map(Path, PAGES):
        text = page.read_text(encoding="utf-8")
        for name, table in made.items():
            start, end = f"<!-- {name}: invoke publish -->", f"<!-- /{name} -->"
            if start in text:
                before, rest = text.split(start)
                text = f"{before}{start}\n{table}\n{end}{rest.split(end)[1]}"
        page.write_text(text, "utf-8", newline="\n")


def tables(published: dict[str, Any]) -> dict[str, str]:
    """The tables in Markdown, by name."""
    made = {"results": results_table(published), "robustness": robustness_table(published)}
    measured = {name: json.loads(Path(f"benchmarks/results/{name}.json").read_text("utf-8")) for name in MEASURED}
    made |= {name: "\n".join(table(measured[name])) for name, table in MEASURED.items()}
    made["goals"] = "\n".join(goals.table(measured, published["evaluation"]))
    return made


def results_table(published: dict[str, Any]) -> str:
    """The README's table of the published run, in Markdown."""
    e, x = published["evaluation"], published["export"]
    rows = [
        ("accuracy, single pass", f"{e['accuracy']:.2%}"),
        ("its 95 % interval", f"{e['accuracy_low']:.2%} to {e['accuracy_high']:.2%}"),
        ("macro F1", f"{e['macro_f1']:.2%}"),
        ("log loss, calibrated (before)", f"{e['log_loss']:.4f} ({e['log_loss_uncalibrated']:.4f})"),
        ("expected calibration error (before)", f"{e['ece']:.2%} ({e['ece_uncalibrated']:.2%})"),
        ("label sets: hold the class, mean size", f"{e['label_set_coverage']:.1%}, {e['label_set_size']:.2f}"),
        ("exported file against PyTorch", f"same top class on all {x['proof']['pictures']:,}, "
                                          f"probabilities within {x['proof']['max_difference']:.0e}"),
        ("model.onnx", f"{x['fp32']['accuracy']:.2%}, {x['fp32']['bytes'] / 1000:,.0f} kB"),
        ("model.int8.onnx", f"{x['int8']['accuracy']:.2%}, {x['int8']['bytes'] / 1000:,.0f} kB"),
        ("served", x["served"]),
        ("called unusual, 1 % asked for", f"{x['int8' if 'int8' in x['served'] else 'fp32']['unusual']:.1%}"),
    ]  # fmt: skip
    return "\n".join(["| test split, 10,000 pictures | |", "|---|---|", *(f"| {k} | {v} |" for k, v in rows)])


def robustness_table(published: dict[str, Any]) -> str:
    """The table of corrupted pictures, in Markdown."""
    r = published["robustness"]
    rows = [("as they are", r["clean"]), *r["kinds"].items(), ("mean of the eight", r["mean"])]
    lines = [f"| {kind} | {accuracy:.1%} |" for kind, accuracy in rows]
    return "\n".join([f"| {r['pictures']:,} test pictures | right, mean of five severities |", "|---|---|", *lines])
