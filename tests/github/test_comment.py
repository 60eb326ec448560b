"""`invoke comment`: real git with a repository beside it, and GitHub's API on loopback."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import comment
from deploy.comment import BRANCH, MARK
from deploy.gcloud import CloudError
from tests.conftest import commit
from tests.github.github import GitHub, client

PNG = b"\x89PNG\r\n\x1a\n"
REPORT = "## 92 % right\n\n![Loss by epoch](curves.png)\n\n![Confusion](confusion.png)\n"


@pytest.fixture(params=["stand-in", "gh"])
def github(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitHub]:
    github = GitHub()
    client(request.param, github, tmp_path, monkeypatch)
    yield github
    github.close()
    assert github.unknown == []


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """GitHub's copy of the repository; the working directory is a clone of it."""
    here, there = tmp_path / "clone", tmp_path / "origin.git"
    git(tmp_path, "init", "--quiet", "--bare", str(there))
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(here))
    commit(here, "--allow-empty")
    git(here, "remote", "add", "origin", str(there))
    git(here, "push", "--quiet", "origin", "main")
    monkeypatch.chdir(here)
    return there


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As `invoke report --plots` leaves it."""
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.md").write_text(REPORT)
    (folder / "curves.png").write_bytes(PNG + b"curves")
    (folder / "confusion.png").write_bytes(PNG + b"confusion")
    return folder


def git(where: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def post(folder: Path) -> str:
    return comment.post(folder, 7, "owner/name", "https://github.test")


def test_a_folder_without_a_report_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"holds no report.md: type `uv run invoke report --plots"):
        post(tmp_path)


def test_a_picture_too_large_for_a_comment_is_named(folder: Path) -> None:
    (folder / "curves.png").write_bytes(PNG + bytes(comment.LARGEST))
    with pytest.raises(CloudError, match=r"too large for a comment, over 2 MB: curves\.png"):
        post(folder)


def test_what_github_refuses_is_said_in_a_line(github: GitHub, origin: Path, folder: Path) -> None:
    github.refuse = "Resource not accessible by integration"
    with pytest.raises(CloudError, match="Resource not accessible by integration") as error:
        post(folder)
    assert "\n" not in str(error.value)


def test_a_branch_that_takes_no_push_is_said(origin: Path, folder: Path) -> None:
    hook = origin / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho protected >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(CloudError, match=r"could not be pushed to the branch reports: .*protected"):
        post(folder)


def test_without_gh_it_says_so(origin: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "report.md").write_text("no pictures, and so no git")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CloudError, match="gh is not on the PATH: install it"):
        post(folder)


def test_pictures_get_an_address_that_holds_them(github: GitHub, origin: Path, folder: Path) -> None:
    assert post(folder) == github.comments[0]["html_url"]
    pushed = git(origin, "rev-parse", BRANCH)
    body = github.comments[0]["body"]
    assert body.startswith(f"{MARK}\n## 92 % right")
    assert f"![Loss by epoch](https://github.test/owner/name/raw/{pushed}/pull-request-7/curves.png)" in body
    shown = subprocess.run(
        ["git", "show", f"{pushed}:pull-request-7/curves.png"], cwd=origin, capture_output=True, check=True
    )
    assert shown.stdout == PNG + b"curves"
    # The person's own work is as it was, and the branch shares nothing with it.
    assert git(Path(), "status", "--porcelain") == ""
    assert git(origin, "rev-list", "--count", BRANCH) == "1"


def test_the_next_report_takes_the_place_of_the_one_before(github: GitHub, origin: Path, folder: Path) -> None:
    for number in range(104):  # more than a page
        github.say(f"remark {number}, which quotes {MARK}")
    post(folder)
    (folder / "report.md").write_text("## 93 % right\n\n![Loss by epoch](curves.png)\n")
    post(folder)
    assert len(github.comments) == 105
    assert "93 % right" in github.comments[-1]["body"]
    assert git(origin, "ls-tree", "-r", "--name-only", BRANCH) == "pull-request-7/curves.png"


def test_pictures_of_other_pull_requests_stay(origin: Path, folder: Path) -> None:
    comment.push([folder / "curves.png"], "pull-request-6")
    comment.push([folder / "confusion.png"], "pull-request-7")
    assert git(origin, "ls-tree", "-r", "--name-only", BRANCH).split() == [
        "pull-request-6/curves.png",
        "pull-request-7/confusion.png",
    ]


def test_two_that_push_at_once_both_arrive(origin: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comment.push([folder / "curves.png"], "pull-request-5")
    real, behind = comment._git, []

    def slow(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        if arguments[0] == "push" and not behind:  # another one's push comes first
            behind.append(True)
            comment.push([folder / "curves.png"], "pull-request-6")
        return real(*arguments, env=env)

    monkeypatch.setattr(comment, "_git", slow)
    comment.push([folder / "curves.png"], "pull-request-7")
    assert git(origin, "ls-tree", "--name-only", BRANCH).split() == [f"pull-request-{n}" for n in (5, 6, 7)]


def test_a_report_by_a_stranger_names_no_file_but_its_own(github: GitHub, origin: Path, folder: Path) -> None:
    (folder.parent / "secret.png").write_bytes(PNG)
    (folder / "report.md").write_text("![a](../secret.png) ![b](missing.png) ![c](curves.png)")
    post(folder)
    assert git(origin, "ls-tree", "-r", "--name-only", BRANCH) == "pull-request-7/curves.png"
    assert "missing.png" not in github.comments[0]["body"]


def test_a_report_too_long_for_github_is_cut(github: GitHub, origin: Path, folder: Path) -> None:
    (folder / "report.md").write_text("long " * 20_000)
    post(folder)
    body = github.comments[0]["body"]
    assert len(body) < 65_536
    assert body.endswith("see the run's artifact `report`.\n")
