"""Every command that README and docs show: run by a test, or marked with what it needs and we have not.

The mark is the title of its block: ```sh title="needs a Google Cloud project". The tutorial, and how one's own pictures
are trained with, are run here as they stand; for the rest it is said which test runs the command.
"""

import ast
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT
from tests.project import ENVIRONMENT, Project

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r'^```sh(?: title="([^"]+)")?\n(.*?)^```$', re.DOTALL | re.MULTILINE)
TERMINAL = "in a second terminal"
HERE = {"tutorial.md", "pictures.md"}
# File -> test -> how the commands begin that it runs.
TESTED = {
    "tests/github/test_release.py": {
        "test_a_dry_run_shows_what_a_version_and_a_stage_do": ["uv run invoke release"],
    },
    "tests/github/test_site.py": {
        "test_the_site_is_built": ["uv run invoke docs"],
    },
    "tests/github/test_steps.py": {
        "test_a_pull_request_is_run_reported_and_commented": ["uv run invoke in-step", "uv run invoke report"],
    },
    "tests/images/test_app.py": {
        "test_the_first_answer_comes_soon": ["uv run pytest -m images -s"],
    },
    "tests/monitoring/test_live.py": {
        "test_clean_traffic_raises_nothing": ["cd deploy/monitoring && prometheus"],
    },
    "tests/stages/test_pins.py": {
        "test_neither_cores_nor_caps_nor_threads_change_a_bit": ["uv run dvc exp run -S precision=reproducible"],
    },
    "tests/stages/test_together.py": {
        "test_two_learn_as_one_does_and_leave_one_set_of_files": ["uv run dvc exp run -S devices=2"],
        "test_torchrun_starts_two_that_make_the_same_bits": ["uv run torchrun"],
    },
    "tests/test_commands.py": {
        "test_ci_says_the_test_command": ["uv run pytest", "uv run invoke test --slow"],
        "test_the_page_does_what_it_says": [
            "uv run dvc repro",
            "uv run invoke serve",
            "uv run dvc exp run -S dataset=image-folder",
            "uv run dvc exp run -S dataset=sketches",
        ],
        "test_what_curl_is_shown_to_ask": [
            "curl -F files=@one.png",
            "curl -F file=@one.png",
            "curl http://127.0.0.1:7860/v1/model",
        ],
        "test_the_hook_runs_what_ci_runs": ["uv run pre-commit install"],
    },
    "tests/test_experiments.py": {
        "test_the_demo_leaves_other_work_alone_and_can_be_run_twice": ["pip install uv && uv run invoke demo"],
        "test_exp_run_takes_a_bare_exponent": ["uv run dvc exp run -S lr=1e-3"],
        "test_a_queue_runs_to_its_end": ["uv run dvc exp run --queue", "uv run dvc exp run --run-all"],
        "test_a_sweep_goes_on_after_a_failed_point_and_prints_the_table": ["uv run invoke sweep"],
    },
    "tests/test_month.py": {
        "test_a_month": [
            "uv run dvc metrics diff",
            "uv run invoke drift",
            "uv run invoke feedback --review",
            "uv run invoke check-data",
            "git add data/feedback dvc.lock",
        ],
    },
    "tests/test_pipeline.py": {
        "test_metrics_and_plots_are_shown": ["uv run dvc metrics show", "uv run dvc plots show"],
    },
    "tests/watching/test_load.py": {
        "test_the_real_app_is_loaded_and_stopped": ["uv run invoke load"],
    },
}
BEGINNINGS = tuple(start for tests in TESTED.values() for starts in tests.values() for start in starts)


@dataclass(frozen=True)
class Block:
    """Commands of a page."""

    page: Path
    title: str
    text: str

    @property
    def run_here(self) -> bool:
        return self.page.name in HERE and self.title in ("", TERMINAL)

    def commands(self) -> list[str]:
        """A line each, without comments and with what a backslash continues."""
        lines = [re.sub(r"(^|\s)#.*", "", line) for line in self.text.replace("\\\n", " ").splitlines()]
        return [" ".join(line.split()) for line in lines if line.strip()]


def blocks() -> list[Block]:
    return [Block(page, *found) for page in PAGES for found in BLOCK.findall(page.read_text(encoding="utf-8"))]


def test_every_command_is_run_by_a_test_or_says_what_it_needs() -> None:
    found = blocks()
    assert len(found) > 40
    unknown = [
        f"{block.page.name}: {command}"
        for block in found
        if not block.title and not block.run_here
        for command in block.commands()
        if not command.startswith(BEGINNINGS)
    ]
    assert unknown == []


def test_what_is_needed_is_among_few_things() -> None:
    assert {block.title for block in blocks()} - {"", TERMINAL} == {
        "downloads Fashion-MNIST, and trains for 8 to 27 minutes",
        "needs a DVC remote and a git remote",
        "needs a DVC remote",
        "needs a Google Cloud project",
        "needs a git remote",
        "needs an app that is deployed",
        "needs docker, or podman",
        "needs the repository's address",
        "trains for more than an hour on two cores",
    }


@pytest.mark.parametrize("file", sorted(TESTED))
def test_the_tests_that_are_named_are_there(file: str) -> None:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert set(TESTED[file]) <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_none_is_named_for_a_command_that_no_page_shows() -> None:
    shown = [command for block in blocks() for command in block.commands()]
    assert [start for start in BEGINNINGS if not any(command.startswith(start) for command in shown)] == []


def test_ci_says_the_test_command() -> None:
    said = (ROOT / ".ci/run").read_text(encoding="utf-8")
    for command in ("pytest", "invoke test --slow", "pytest -m images"):
        assert f"uv run --no-sync {command}" in said


# As they stand


@pytest.fixture
def shell(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which `uv run` is this one's own, and git knows who commits."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "uv").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    (folder / "uv").chmod(0o755)
    who = {f"GIT_{role}_{key}": "test@localhost" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    return {**ENVIRONMENT, **who, "PATH": f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}", "BROWSER": "true"}


@pytest.fixture
def port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = free.getsockname()[1]
    return str(number)


class Reader:
    """Types what a page says, block by block, in a project."""

    def __init__(self, project: Project, shell: dict[str, str], port: str) -> None:
        self.folder, self.shell, self.port = project.folder, shell, port
        self.servers: list[subprocess.Popen[bytes]] = []

    def type(self, text: str) -> str:
        """Run it; what it printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text.replace("7860", self.port)],
            cwd=self.folder, env=self.shell, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        return done.stdout

    def serve(self) -> None:
        """`uv run invoke serve`, at a port that is free."""
        command = [sys.executable, "-m", "invoke", "serve", "--port", self.port]
        self.servers.append(subprocess.Popen(command, cwd=self.folder, env=self.shell, start_new_session=True))
        end = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.port))) == 0:
                    return
            assert time.monotonic() < end
            time.sleep(0.2)

    def stop(self) -> None:
        for server in self.servers:
            os.killpg(server.pid, signal.SIGINT)
            server.wait(30)
        self.servers.clear()


@pytest.fixture
def reader(tmp_path: Path, shell: dict[str, str], port: str) -> Iterator[Reader]:
    """In front of a clone as it comes."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    reader = Reader(Project(tmp_path, **params), shell, port)
    yield reader
    reader.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(HERE))
def test_the_page_does_what_it_says(name: str, reader: Reader) -> None:
    if name == "pictures.md":
        own_pictures(reader.folder)
    said = {}
    for block in blocks():
        if block.page.name != name or not block.run_here:
            continue
        serves = [command for command in block.commands() if command == "uv run invoke serve"]
        said[block.text] = reader.type("\n".join(c for c in block.commands() if c not in serves))
        if serves:
            reader.serve()
    if name == "tutorial.md":
        assert "up to date" in said["uv run dvc repro\n"]
        assert '"T-shirt/top":' in next(text for text in said.values() if '"answers"' in text)
        assert (reader.folder / "report/load.html").is_file()
    else:
        assert (reader.folder / "data/garments.dvc").is_file()


def own_pictures(folder: Path) -> None:
    """Two kinds, forty of each, in colour and of several sizes; as data/pictures/ and as data/garments/."""
    rng = np.random.default_rng(0)
    for number in range(80):
        side = int(rng.integers(40, 90))
        picture = np.full((side, side, 3), 255, np.uint8)
        low, high = side // 5, side - side // 5
        left, right = (side // 2 - 4, side // 2 + 4) if number % 2 else (low, high)
        # Woven, so that no two are the same picture.
        picture[low:high, left:right] = rng.integers(0, 120, (high - low, right - left, 1))
        for place in ("data/pictures", "data/garments"):
            kind = folder / place / ("scarf" if number % 2 else "cushion")
            kind.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(kind / f"{number}.png")


@pytest.mark.slow
def test_what_curl_is_shown_to_ask(tmp_path: Path, shell: dict[str, str], port: str) -> None:
    from tests.app import tiny_model

    project = Project(tmp_path)
    shutil.rmtree(tmp_path / "models", ignore_errors=True)
    tiny_model.write(tmp_path / "models")
    for name in ("one.png", "two.jpg"):
        Image.fromarray(tiny_model.shapes()["Bag"]).save(tmp_path / name)
    reader = Reader(project, shell, port)
    try:
        reader.serve()
        asked = 0
        for block in blocks():
            for command in block.commands():
                if command.startswith("curl") and not block.title and not block.run_here:
                    said = reader.type(command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1))
                    assert '"Bag"' in said or "heat.png" in command
                    asked += 1
        assert asked >= 4
        with Image.open(tmp_path / "heat.png") as heat:
            assert heat.format == "PNG"
    finally:
        reader.stop()


@pytest.mark.slow
def test_the_hook_runs_what_ci_runs(tmp_path: Path, shell: dict[str, str], port: str) -> None:
    reader = Reader(Project(tmp_path), shell, port)
    reader.type("uv run pre-commit install")
    assert "pre-commit" in (tmp_path / ".git/hooks/pre-commit").read_text(encoding="utf-8")
    assert "invoke lint" in (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
