"""invoke verify: the same bits again, and what it says where they are not."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.context import MockContext
from invoke.exceptions import Exit

import tasks
from deploy import verify
from deploy.gcloud import CloudError
from tests.project import Project

BEFORE = {
    verify.EVALUATION: {"accuracy": 0.94, "accuracy_low": 0.935, "accuracy_high": 0.945},
    verify.EXPORT: {"fp32": {"accuracy": 0.94}, "int8": {"accuracy": 0.939}},
}


def metrics(accuracy: float = 0.941, fp32: float = 0.941, int8: float = 0.94) -> dict[str, Any]:
    return {
        verify.EVALUATION: {"accuracy": accuracy},
        verify.EXPORT: {"fp32": {"accuracy": fp32}, "int8": {"accuracy": int8}},
    }


def lock(**outs: str) -> str:
    return yaml.safe_dump({"stages": {"all": {"outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}}})


@pytest.mark.parametrize("wrong", [{"accuracy": 0.93}, {"fp32": 0.9349}, {"int8": 0.946}])
def test_an_accuracy_outside_the_interval_is_named(wrong: dict[str, float]) -> None:
    (line,) = verify.tolerance(BEFORE, metrics(**wrong))
    assert line.startswith(f"{next(iter(wrong))}")
    assert "93.50% to 94.50%" in line


def test_within_the_interval_nothing_is_said() -> None:
    assert verify.tolerance(BEFORE, metrics()) == []


def test_each_out_has_its_verdict() -> None:
    before, after = (
        lock(a="1", b="2", gone="3", **{verify.DATA: "4"}),
        lock(a="1", b="9", new="5", **{verify.DATA: "6"}),
    )
    good = verify.compare(before, after, good=True)
    assert good == {
        "a": verify.EQUAL,
        "b": verify.WITHIN,
        "gone": verify.DIFFERS,
        "new": verify.DIFFERS,
        verify.DATA: verify.DIFFERS,  # no processor prepares otherwise
    }
    assert verify.compare(before, after, good=False)["b"] == verify.DIFFERS


def test_without_a_commit_or_a_lock_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="git rev-parse"):
        verify.clone(tmp_path, tmp_path / "clone")
    project = Project(tmp_path / "project")
    with pytest.raises(CloudError, match=r"has no dvc\.lock: run `uv run dvc repro`"):
        verify.clone(project.folder, tmp_path / "other")


@pytest.mark.slow
def test_a_run_is_made_again_to_the_bit_and_a_forged_out_is_found(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.dvc("repro")
    outs = [out for made in project.hashes().values() for out in made]
    file = project.folder / "dvc.lock"
    file.write_text(file.read_text(encoding="utf-8").replace(project.hashes()["train"]["models/network.pt"], "f" * 32))
    project.git("add", "dvc.lock")
    project.git("commit", "--quiet", "-m", "run")
    said = project.run("invoke", "verify", "--keep", str(tmp_path / "kept"))
    verdicts = {line.split("│")[1].strip(): line.split("│")[2].strip() for line in said.splitlines() if "│" in line}
    assert verdicts == {out: verify.WITHIN if out == "models/network.pt" else verify.EQUAL for out in outs}
    assert "Running stage 'train'" in said  # made, not found
    assert (tmp_path / "kept/models/model.onnx").is_file()


def test_what_differs_ends_with_1_and_says_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"a": verify.EQUAL, "b": verify.DIFFERS}
    monkeypatch.setattr(verify, "verify", lambda root, folder: (found, ["accuracy 1.00% is not within 2.00% to 3.00%"]))
    with pytest.raises(Exit, match="1 of 2 outs differ") as end:
        tasks.verify(MockContext())
    assert end.value.code == 1
    with pytest.raises(Exit, match="it exists already"):
        tasks.verify(MockContext(), keep=str(tmp_path))


def test_the_published_metrics_serve_where_there_is_no_cache(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    made = {"evaluation": BEFORE[verify.EVALUATION], "export": BEFORE[verify.EXPORT]}
    md5 = {verify.EVALUATION: "1", verify.EXPORT: "2"}
    (project.folder / "docs/results.json").write_text(json.dumps({"md5": md5, **made}), encoding="utf-8")
    project.git("commit", "--quiet", "--all", "-m", "published")
    head = project.git("rev-parse", "HEAD").strip()
    assert verify.committed_metrics(project.folder, head, lock(**md5)) == BEFORE
    assert verify.committed_metrics(project.folder, head, lock(**md5 | {verify.EXPORT: "3"})) is None
