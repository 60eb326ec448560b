"""Versions and stages under real git, GTO and DVC: registered, promoted through the gate, taken back, listed.

The outs are written by hand and committed to DVC's cache, as a run of the stages would leave them.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from tests.app import tiny_model
from tests.conftest import commit
from tests.project import Project

pytestmark = pytest.mark.slow
NAMES = ("Trouser", "Sandal", "Bag")
PICTURES = 300
OTHER_TEST = b"other pictures"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Versions v1.0.0 to v1.6.0, none of which has a stage."""
    with pytest.MonkeyPatch.context() as patch:
        identify(patch)
        project = Project(tmp_path_factory.mktemp("registry"))
        assert "no version is registered: type `uv run invoke register`" in invoke(project, "models", ok=False)
        train(project, wrong=range(30))
        assert version(project, "--version", "v1.0.0") == "v1.0.0"
        for changes in (
            {"wrong": range(5)},  # v1.1.0 better
            {"wrong": range(100, 130)},  # v1.2.0 as good, elsewhere wrong
            {"wrong": range(80)},  # v1.3.0 significantly worse
            {"wrong": range(30), "ece": 0.2},  # v1.4.0 worse calibrated
            {"wrong": range(5), "test": OTHER_TEST},  # v1.5.0
            {"wrong": range(29), "note": "lost"},  # v1.6.0
        ):
            train(project, **changes)
            version(project, "--bump", "minor")
        return project


@pytest.fixture
def stages(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """v1.0.0 is prod; afterwards nothing is."""
    identify(monkeypatch)
    invoke(project, "promote", "v1.0.0")
    yield
    for tag in project.git("tag", "--list", "model#*").split():
        project.git("tag", "--delete", tag)


def identify(patch: pytest.MonkeyPatch) -> None:
    """Tags with a message are somebody's."""
    import tests.project

    who = {f"GIT_{role}_{key}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    patch.setattr(tests.project, "ENVIRONMENT", {**tests.project.ENVIRONMENT, **who, "COLUMNS": "200"})


def invoke(project: Project, *words: str, ok: bool = True) -> str:
    said = project.run("invoke", *words, ok=ok)
    assert "Traceback" not in said
    return said


def train(
    project: Project, *, wrong: Sequence[int], ece: float = 0.02, test: bytes = b"pictures", note: str = ""
) -> None:
    """What a run leaves, with these test pictures called wrong, committed to git and DVC's cache."""
    folder = project.folder
    pipeline = yaml.safe_load((folder / "dvc.yaml").read_text(encoding="utf-8"))
    for stage in pipeline["stages"].values():
        for path in map(folder.joinpath, stage["outs"]):
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
    shutil.rmtree(folder / "models", ignore_errors=True)
    tiny_model.write(folder / "models")
    (folder / "models/model.onnx").write_bytes(mark(folder / "models/model.onnx", f"{wrong} {ece} {test!r} {note}"))
    rows = [(NAMES[i % 3], NAMES[(i + (i in wrong)) % 3]) for i in range(PICTURES)]
    files: dict[str, bytes] = {
        "data/prepared/test.images.npy": test,
        "data/prepared/test.labels.npy": b"labels",
        "data/prepared/train.images.npy": note.encode(),
        "reports/evaluation/confusion.csv": "\n".join(["actual,predicted", *map(",".join, rows), ""]).encode(),
        "reports/evaluation/metrics.json": json.dumps({"ece": ece}).encode(),
        "reports/robustness/metrics.json": json.dumps({"mean": 0.7}).encode(),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    for stage in pipeline["stages"].values():
        for path in map(folder.joinpath, stage["outs"]):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(note)
    project.dvc("commit", "--force")
    project.git("add", "--all")
    commit(folder)


def mark(model: Path, note: str) -> bytes:
    """The model, with bytes of its own."""
    import onnx

    loaded = onnx.load(model)
    loaded.doc_string = note
    return loaded.SerializeToString()


def version(project: Project, *words: str) -> str:
    """Register; the version's name."""
    said = invoke(project, "register", *words)
    tag = said.split(" is this commit")[0].splitlines()[-1]
    assert f"to share it: `uv run dvc push`, then `git push origin {tag}`" in said
    return tag.removeprefix("model@")


def holders(project: Project) -> list[str]:
    """Stage tags, each with the version at its commit, in the order of their numbers."""
    tags = sorted(project.git("tag", "--list", "model#*").split(), key=lambda tag: int(tag.split("#")[-1]))
    at = {tag: project.git("tag", "--list", "model@*", "--points-at", f"{tag}^{{commit}}").strip() for tag in tags}
    return [f"{tag} {name}" for tag, name in at.items()]


FIRST = "model#prod#1 model@v1.0.0"


# Register


def test_what_is_committed_and_in_step_is_registered_and_nothing_else(project: Project) -> None:
    tags = project.git("tag")
    assert "the model of this commit is v1.6.0 already" in invoke(project, "register", ok=False)
    (project.folder / "new.txt").write_text("")
    assert "the work tree has changes (new.txt, ...): commit them" in invoke(project, "register", ok=False)
    (project.folder / "new.txt").unlink()
    commit(project.folder, "--allow-empty")
    assert "the model of this commit is v1.6.0 already" in invoke(project, "register", ok=False)
    assert "--bump huge: there are patch, minor, major" in invoke(project, "register", "--bump", "huge", ok=False)
    assert "--version 1.2: it should read like v1.2.0" in invoke(project, "register", "--version", "1.2", ok=False)
    said = invoke(project, "register", "--version", "v1.0.0", ok=False)
    assert "v1.0.0 is registered already: give another --version" in said
    assert project.git("tag") == tags
    project.git("reset", "--quiet", "--hard", "model@v1.6.0")


def test_a_lock_that_is_behind_is_not_registered(project: Project, stages: None) -> None:
    """Of a model that is new."""
    lock = project.folder / "dvc.lock"
    params = project.folder / "params.yaml"
    before = lock.read_text(), params.read_text()
    stage = yaml.safe_load(before[0])
    for out in stage["stages"]["export"]["outs"]:
        if out["path"] == "models/model.onnx":
            out["md5"] = "0" * 32
    lock.write_text(yaml.safe_dump(stage))
    project.set(epochs=4)
    project.git("add", "--all")
    commit(project.folder)
    said = invoke(project, "register", ok=False)
    project.git("reset", "--quiet", "--hard", "model@v1.6.0")
    assert "dvc.lock is behind (train: params.yaml: epochs modified): type `uv run dvc repro`" in said
    assert "model@v1.6.1" not in project.git("tag")


# Promote


def test_the_first_has_nobody_to_be_compared_with(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    identify(monkeypatch)
    said = invoke(project, "promote", "v1.0.0", "--stage", "dev")
    assert "v1.0.0 is dev, the first: nobody was there to compare it with: model#dev#1" in said
    assert "to share it: `git push origin 'model#dev#1'`" in said
    project.git("tag", "--delete", "model#dev#1")


def test_a_better_one_and_one_as_good_pass_and_the_older_comes_back(project: Project, stages: None) -> None:
    said = invoke(project, "promote", "v1.1.0")
    assert "better: 25 won, 0 lost" in said
    assert "v1.1.0 is prod in place of v1.0.0: model#prod#2" in said
    message = project.git("tag", "--list", "model#prod#2", "--format=%(contents)")
    assert "passed: accuracy 90.00% -> 98.33% (better: 25 won, 0 lost" in message
    assert "v1.1.0 is prod already: nothing was changed" in invoke(project, "promote", "v1.1.0", ok=False)
    # Back, though it is worse; and from there to one that is as good.
    said = invoke(project, "promote", "v1.0.0")
    assert "v1.0.0 was prod before and is again, without a gate, in place of v1.1.0: model#prod#3" in said
    said = invoke(project, "promote", "v1.2.0")
    assert "no worse than chance explains: 30 won, 30 lost, p = 1" in said
    names = ["v1.0.0", "v1.1.0", "v1.0.0", "v1.2.0"]
    assert holders(project) == [f"model#prod#{i} model@{name}" for i, name in enumerate(names, 1)]


def test_a_worse_one_does_not_and_why_is_said(project: Project, stages: None) -> None:
    said = invoke(project, "promote", "v1.3.0", ok=False).splitlines()[-1]
    assert said.startswith(
        "v1.3.0 does not become prod in place of v1.0.0: accuracy 90.00% -> 73.33% (worse by more than chance: 0 won, "
        "50 lost, p = 1.8e-15)"
    )
    said = invoke(project, "promote", "v1.4.0", ok=False).splitlines()[-1]
    assert said.endswith("calibration error 2.00% -> 20.00% (worse by more than 1.0%)")
    assert holders(project) == [FIRST]


def test_a_slower_one_does_not(project: Project, stages: None) -> None:
    """Against a limit that nothing fails or everything, since a machine is not to be timed here."""
    settings = project.folder / "invoke.yaml"
    before = settings.read_text(encoding="utf-8")
    module = project.folder / "deploy/evidence.py"
    code = module.read_text(encoding="utf-8")
    module.write_text(code + "\n\ndef slower(models):\n    return 0.001, 0.002, 2.0\n", encoding="utf-8")
    said = invoke(project, "promote", "v1.1.0", ok=False).splitlines()[-1]
    settings.write_text(before.replace("speed: 1.25", "speed: 2.0"), encoding="utf-8")
    passed = invoke(project, "promote", "v1.1.0")
    module.write_text(code, encoding="utf-8")
    settings.write_text(before, encoding="utf-8")
    assert said.endswith("speed 1.00 ms -> 2.00 ms (2.00 times as long, 1.25 is allowed)")
    assert "2.00 times as long, 2 is allowed" in passed


def test_other_test_pictures_need_a_reason_which_the_tag_keeps(project: Project, stages: None) -> None:
    said = invoke(project, "promote", "v1.5.0", ok=False)
    assert "other test pictures" in said
    assert "give --force 'why', which the tag keeps" in said
    assert holders(project) == [FIRST]
    invoke(project, "promote", "v1.5.0", "--force", "the old pictures had a wrong label")
    message = project.git("tag", "--list", "model#prod#2", "--format=%(contents)")
    assert "failed: accuracy 90.00% -> 98.33% (other test pictures)" in message
    assert "Forced: the old pictures had a wrong label" in message


def test_a_version_that_is_not_there_is_named(project: Project, stages: None) -> None:
    said = invoke(project, "promote", "v9.0.0", ok=False)
    assert "v9.0.0 is no version of model; there are v1.6.0, v1.5.0, v1.4.0, v1.3.0, v1.2.0" in said
    assert "--stage Prod!: small letters" in invoke(project, "promote", "v1.1.0", "--stage", "Prod!", ok=False)
    assert holders(project) == [FIRST]


def test_files_that_are_nowhere_stop_it_in_a_line(project: Project, stages: None) -> None:
    lock = yaml.safe_load(project.git("show", "model@v1.6.0:dvc.lock"))
    hashes = {out["path"]: out["md5"] for stage in lock["stages"].values() for out in stage["outs"]}
    digits = hashes["models/model.onnx"]
    cached = project.folder / ".dvc/cache/files/md5" / digits[:2] / digits[2:]
    kept = cached.with_name("kept")
    cached.rename(kept)
    try:
        said = invoke(project, "promote", "v1.6.0", "--force", "hurry", ok=False).splitlines()
        listed = invoke(project, "models")
    finally:
        kept.rename(cached)
    assert len(said) == 1
    assert said[0].startswith("v1.6.0: its files are neither in DVC's cache nor in its remote")
    assert "type `uv run dvc fetch --all-tags`" in said[0]
    assert "not in DVC's cache: v1.6.0; --fetch asks the remote" in listed
    assert holders(project) == [FIRST]


# What the registry says


def test_models_lists_versions_with_their_figures(project: Project, stages: None) -> None:
    lines = [line for line in invoke(project, "models").splitlines() if "v1." in line]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    assert [row[0] for row in cells] == [f"v1.{i}.0" for i in range(6, -1, -1)]
    assert [row[1] for row in cells] == ["", "", "", "", "", "", "prod"]
    assert cells[-1][2] == project.git("rev-parse", "model@v1.0.0^{commit}")[:12]
    assert cells[-1][4:7] == ["90.00%", "2.00%", "70.00%"]
    assert all(row[7].endswith(" ms") for row in cells)


def test_a_tag_is_pushed_where_it_is_asked_for(project: Project, stages: None, tmp_path: Path) -> None:
    said = invoke(project, "promote", "v1.1.0", "--push", ok=False)
    assert "model#prod#2 is made here and not shared" in said
    assert "type `git push origin 'model#prod#2'` again" in said
    project.git("init", "--quiet", "--bare", str(tmp_path / "origin"))
    project.git("remote", "add", "origin", str(tmp_path / "origin"))
    assert "model#prod#3 is shared" in invoke(project, "promote", "v1.0.0", "--push")
    assert "refs/tags/model#prod#3" in project.git("ls-remote", "origin")
    project.git("remote", "remove", "origin")


def test_without_gto_it_says_so(project: Project) -> None:
    (project.folder / "gto.py").write_text("raise ImportError")
    said = invoke(project, "models", ok=False)
    (project.folder / "gto.py").unlink()
    assert said.splitlines() == ["the package gto is missing, which reads the registry's tags: type `uv sync`"]
