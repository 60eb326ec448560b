"""What a change does to the model: metrics against another commit, the params that differ, pictures; in Markdown."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from deploy.gcloud import CloudError

PATIENCE = 60.0  # seconds for a remote; DVC itself goes on for more than five minutes
PUBLISHED = "docs/results.json"  # the figures of the run in dvc.lock, in git
REPORTS = ("evaluation", "export", "training")  # in the order of their use to a reader
Values = dict[str, Any]  # "accuracy": 0.94, "fp32.bytes": 1328237


@dataclass(frozen=True)
class Comparison:
    """Two commits side by side.

    Attributes:
        base: what was compared with, as it was named.
        metrics: report -> key -> (base's value or None, ours or None).
        params: file -> key -> (base's value or None, ours or None); only those that differ.
        notes: what the reader has to know of the comparison, a sentence each.
    """

    base: str
    metrics: dict[str, dict[str, tuple[Any, Any]]]
    params: dict[str, dict[str, tuple[Any, Any]]]
    notes: list[str] = field(default_factory=list)


def compare(base: str, patience: float = PATIENCE) -> Comparison:
    """Compare the workspace with a commit.

    What DVC's cache does not hold of the base is asked from the remote, for `patience` seconds at most; failing that it
    is taken from the figures that the base published. What cannot be had is said in a note.

    Raises:
        CloudError: there is no such commit, or the workspace has no metrics.
    """
    if _git("rev-parse", "--verify", "--quiet", f"{base}^{{commit}}") is None:
        raise CloudError(f"{base} is no commit here: type `git fetch origin`, or name another with --base")
    from dvc.repo import Repo

    # A remote that is an empty folder: nothing waits for the network.
    nowhere = {"core": {"remote": "nowhere"}, "remote": {"nowhere": {"url": str(Path(".atelier/nowhere").resolve())}}}
    repo = Repo(".", config=nowhere)
    params = {file: _pairs(found) for file, found in repo.params.diff(base).get("diff", {}).items()}
    diff = repo.metrics.diff(base, all=True).get("diff", {})
    metrics = {_report(path): _pairs(found) for path, found in diff.items()}
    repo.close()
    if not any(ours is not None for found in metrics.values() for _, ours in found.values()):
        raise CloudError("reports/ holds no metrics: type `uv run dvc repro` first")
    notes: list[str] = []
    if not _has_base(metrics):
        metrics, note = _from_elsewhere(base, metrics, patience)
        notes.append(note)
    notes += _lock_notes()
    return Comparison(base, metrics, params, notes)


def _lock_notes() -> list[str]:
    """Whether the committed dvc.lock is of the run that is reported."""
    committed, here = _git("show", "HEAD:dvc.lock"), Path("dvc.lock").read_text(encoding="utf-8")
    if committed == here:
        return []
    if committed is None or _inputs(committed) != _inputs(here):
        return ["`dvc.lock` as it is committed is not of this run: commit the one that `uv run dvc repro` writes."]
    return ["The run gave other bits than the committed `dvc.lock` has, as another processor does."]


def _inputs(lock: str) -> Any:
    """Of each stage its command, its params, and those deps that no stage made."""
    stages = yaml.safe_load(lock)["stages"]
    made = {out["path"] for stage in stages.values() for out in stage.get("outs", [])}
    return {
        name: (
            stage["cmd"],
            stage.get("params"),
            {dep["path"]: dep.get("md5") for dep in stage.get("deps", []) if dep["path"] not in made},
        )
        for name, stage in stages.items()
    }


def _from_elsewhere(base: str, metrics: Values, patience: float) -> tuple[Values, str]:
    """The base's metrics from the remote or as published; and what to say of it."""
    why = "there is no remote"
    if _remote():
        try:
            done = subprocess.run(
                [sys.executable, "-m", "dvc", "metrics", "diff", "--all", "--json", base],
                capture_output=True,
                text=True,
                timeout=patience,
                check=False,
            )
            found = json.loads(done.stdout) if done.returncode == 0 and done.stdout.strip() else {}
            asked = {_report(path): _pairs(values) for path, values in found.items()}
            if _has_base(asked):
                return asked, f"The figures of {base} are from DVC's remote."
            why = "the remote does not hold them"
        except subprocess.TimeoutExpired:
            why = f"the remote did not answer within {patience:.0f} s"
    published = _published(base)
    if published:
        both: Values = {}
        for report in dict.fromkeys([*metrics, *published]):
            old, new = published.get(report, {}), metrics.get(report, {})
            both[report] = {k: (old.get(k), new[k][1] if k in new else None) for k in dict.fromkeys([*new, *old])}
        return both, f"The figures of {base} are those of its `{PUBLISHED}`."
    return metrics, f"The figures of {base} could not be had: {why}."


def _published(base: str) -> dict[str, Values]:
    """The figures that a commit published, if they are of the run in its dvc.lock."""
    results, lock = _git("show", f"{base}:{PUBLISHED}"), _git("show", f"{base}:dvc.lock")
    if results is None or lock is None:
        return {}
    published = json.loads(results)
    ran = {out["path"]: out["md5"] for stage in yaml.safe_load(lock)["stages"].values() for out in stage["outs"]}
    if any(ran.get(path) != md5 for path, md5 in published["md5"].items()):
        return {}
    return {name: _flat(values) for name, values in published.items() if name != "md5"}


def _git(*arguments: str) -> str | None:
    done = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
    return done.stdout if done.returncode == 0 else None


def _remote() -> bool:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "config", "core.remote"], capture_output=True, text=True, check=False
    )
    return bool(done.stdout.strip())


def _report(path: str) -> str:
    """`reports/evaluation/metrics.json` -> `evaluation`."""
    return Path(path).parent.name


def _pairs(diff: Values) -> dict[str, tuple[Any, Any]]:
    return {key: (value.get("old"), value.get("new")) for key, value in diff.items()}


def _flat(values: Values, before: str = "") -> Values:
    flat: Values = {}
    for key, value in values.items():
        flat |= _flat(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return flat


def _has_base(metrics: dict[str, dict[str, tuple[Any, Any]]]) -> bool:
    return any(old is not None for found in metrics.values() for old, _ in found.values())


# --- Markdown ------------------------------------------------------------------------------------------------


def markdown(found: Comparison, pictures: list[tuple[str, str]]) -> str:
    """The comparison as GitHub shows it.

    Args:
        pictures: file name and title of each, beside the text.
    """
    parts = [f"## {headline(found)}"]
    if verdict := chance(found):
        parts.append(verdict)
    parts += found.notes
    ordered = sorted(found.metrics, key=lambda name: REPORTS.index(name) if name in REPORTS else len(REPORTS))
    for name in ordered:
        if table := metrics_table(found.metrics[name], found.base):
            shown = f"### {name.capitalize()}\n\n{table}"
            fold = f"<details><summary>{name.capitalize()}</summary>\n\n{table}\n\n</details>"
            parts.append(shown if name == REPORTS[0] else fold)
    parts.append("### Params\n\n" + params_table(found))
    parts += [f"### {title}\n\n![{title}]({name})" for name, title in pictures]
    return "\n\n".join(parts) + "\n"


def headline(found: Comparison) -> str:
    """What happened to the share of test pictures that are named rightly."""
    old, new = found.metrics.get("evaluation", {}).get("accuracy", (None, None))
    if new is None:
        return "No accuracy was measured"
    if old is None:
        return f"{new:.2%} right on the test split"
    change = f"{100 * (new - old):+.2f} points" if new != old else "no change"
    return f"{new:.2%} right on the test split, {old:.2%} on {found.base}: {change}"


def chance(found: Comparison) -> str:
    """Whether so small a change says anything: the base's 95 % interval decides."""
    measured = found.metrics.get("evaluation", {})
    new = measured.get("accuracy", (None, None))[1]
    low, high = (measured.get(f"accuracy_{end}", (None, None))[0] for end in ("low", "high"))
    if None in (new, low, high) or new == measured["accuracy"][0]:
        return ""
    if low <= new <= high:
        return f"Within the 95 % interval of {found.base}, {low:.2%} to {high:.2%}: chance alone may do that."
    return f"Outside the 95 % interval of {found.base}, {low:.2%} to {high:.2%}."


def metrics_table(values: dict[str, tuple[Any, Any]], base: str) -> str:
    """Key, base's value, ours, the change; what is no number is left out, but for names such as `served`."""
    lines = []
    for key, (old, new) in sorted(values.items()):
        if key.endswith("sha256"):
            continue
        both = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (old, new))
        change = (_number(new - old, sign=True) if new != old else "") if both else ""
        lines.append(f"| {key} | {_value(old)} | {_value(new)} | {change} |")
    return "\n".join([f"| | {_cell(base)} | here | change |", "|---|--:|--:|--:|", *lines]) if lines else ""


def params_table(found: Comparison) -> str:
    """The params that differ, or a sentence."""
    lines = [
        f"| {_cell(key)} | {_value(old)} | {_value(new)} |"
        for _, values in sorted(found.params.items())
        for key, (old, new) in sorted(values.items())
    ]
    if not lines:
        return f"The same as on {found.base}."
    return "\n".join([f"| | {_cell(found.base)} | here |", "|---|--:|--:|", *lines])


def _value(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return _cell(str(value))


def _number(value: float, sign: bool = False) -> str:
    plus = "+" if sign else ""
    if isinstance(value, int):
        return f"{value:{plus},}"
    return f"{value:{plus}.4f}" if value == 0 or abs(value) >= 0.001 else f"{value:{plus}.1e}"


def _cell(text: str) -> str:
    """Text that ends neither its cell nor the table."""
    return " ".join(text.split()).replace("|", "\\|")
