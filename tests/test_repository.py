"""What the repository says of itself holds: requirements, the README's table, its commands."""

import json
import re
import subprocess
import sys

import pytest
import yaml

import tasks
from benchmarks import pages
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", tasks.EXPORTS)
def test_requirements_agree_with_pyproject(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    text = (ROOT / name).read_text(encoding="utf-8")
    assert tasks.fingerprint() in text.splitlines()[0], "run `uv run invoke lock`"
    pins = re.findall(r"^([\w.\-]+)==", text, re.MULTILINE)
    assert len(pins) == len(re.findall(r"^[\w.\-]+.*\\\n    --hash=sha256:", text, re.MULTILINE))
    assert ("torch" in pins) == (name == "requirements/train.txt")
    assert {"gradio", "onnxruntime", "pillow"} <= set(pins)
    assert "://" not in text
    assert "--index" not in text


def committed(name: str) -> str:
    """A file as it is staged: the README's own commands change the one in the workspace."""
    return subprocess.run(["git", "show", f":{name}"], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_the_tables_are_the_committed_run_and_what_was_measured() -> None:
    lock = yaml.safe_load(committed("dvc.lock"))
    published = json.loads((ROOT / "docs/results.json").read_text(encoding="utf-8"))
    # The figures lie in DVC's cache, which a clone has not: docs/results.json is a copy, tied to the run by its hashes.
    for stage, path in (
        ("evaluate", "reports/evaluation"),
        ("evaluate", "reports/robustness"),
        ("export", "reports/export"),
    ):
        assert published["md5"][path] == next(o["md5"] for o in lock["stages"][stage]["outs"] if o["path"] == path)
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages.PAGES)
    for name, table in pages.tables(published).items():
        assert f"<!-- {name}: invoke publish -->\n{table}\n<!-- /{name} -->" in text, name


def test_committed_params_are_those_of_the_published_run() -> None:
    lock, params = yaml.safe_load(committed("dvc.lock")), yaml.safe_load(committed("params.yaml"))
    assert params["dataset"] == "fashion-mnist"
    for stage in lock["stages"].values():
        for key, value in stage["params"]["params.yaml"].items():
            assert params[key] == value, key


def test_the_training_that_was_timed_is_that_of_the_params() -> None:
    timed = json.loads((ROOT / "benchmarks/results/training.json").read_text(encoding="utf-8"))
    assert timed["epochs"] == yaml.safe_load(committed("params.yaml"))["epochs"]


def test_every_task_the_readme_names_exists() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "invoke", "--list"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in set(re.findall(r"invoke ([a-z][a-z-]+)", README)):
        assert re.search(rf"^  {name}\b", listed, re.MULTILINE), name


def test_the_two_commands_stand_on_the_first_screen() -> None:
    first = "\n".join(README.splitlines()[:60])
    assert "pip install uv && uv run invoke demo" in first
    assert "uv run pytest" in first
