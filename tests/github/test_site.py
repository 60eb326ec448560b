"""The site: links that leave docs/, and a build that fails where one leads nowhere."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy import site
from tests import project

HERE = "https://github.com/owner/name/blob/abc"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "invoke.yaml").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "where", "becomes"),
    [
        ("see [names](../invoke.yaml).", HERE, f"see [names]({HERE}/invoke.yaml)."),
        ("[names](../invoke.yaml#gcp)", HERE, f"[names]({HERE}/invoke.yaml#gcp)"),
        ("see [names](../invoke.yaml).", "", "see names."),
        ("[gone](../gone.yaml)", HERE, "[gone](../gone.yaml)"),  # for the strict build to find
        ("[gone](../gone.yaml)", "", "[gone](../gone.yaml)"),
        ("[page](other.md) [far](https://a.test/../x)", HERE, "[page](other.md) [far](https://a.test/../x)"),
    ],
)
def test_links_out_of_docs(text: str, where: str, becomes: str, repository: Path) -> None:
    assert site.rewrite(text, repository, where) == becomes


def test_the_address_is_of_the_commit_that_the_workflow_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_REPOSITORY", "GITHUB_SERVER_URL", "GITHUB_SHA"):
        monkeypatch.delenv(name, raising=False)
    assert site.address() == ""
    monkeypatch.setenv("GITHUB_REPOSITORY", "owner/name")
    assert site.address() == "https://github.com/owner/name/blob/main"
    monkeypatch.setenv("GITHUB_SHA", "abc")
    assert site.address() == HERE


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository: pages link to files of all of it."""
    if not find_spec("material"):
        pytest.skip("the packages of the docs are not here: uv sync --group docs")
    project.copy(tmp_path)
    return tmp_path


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """`invoke docs`."""
    return subprocess.run(
        [sys.executable, "-m", "invoke", "docs"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_site_is_built(copy: Path) -> None:
    done = build(copy)
    assert done.returncode == 0, done.stderr
    page = (copy / "site/index.html").read_text(encoding="utf-8")
    assert "fonts.googleapis.com" not in page  # nor anything else from another machine
    for file in (copy / "docs").glob("*.md"):
        assert file.stem == "index" or f'href="{file.stem}/"' in page, file.name  # the navigation has it


@pytest.mark.parametrize("link", ["[a](nowhere.md)", "[a](../nowhere.yaml)", "[a](serving.md#nowhere)"])
def test_a_link_that_leads_nowhere_fails_the_site(copy: Path, link: str) -> None:
    with (copy / "docs/index.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    done = build(copy)
    assert done.returncode != 0
    assert "nowhere" in done.stderr
    assert "the site was not built" in done.stderr
