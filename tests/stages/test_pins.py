"""`precision: reproducible`: the same bits, whatever the environment and however many cores."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from stages import pins
from stages.stage import StageError, sha256
from stages.train import choose
from tests.conftest import ROOT, Run
from tests.project import SMALL


@pytest.fixture
def restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments that a stage was started anew with; params.yaml of this folder asks for the same bits."""
    found: list[dict[str, str]] = []
    monkeypatch.setattr(pins, "_restart", found.append)
    monkeypatch.chdir(tmp_path)
    choose_precision(tmp_path, "reproducible")
    return found


def choose_precision(folder: Path, precision: str) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump(values | SMALL | {"precision": precision}), encoding="utf-8")


def test_a_processor_without_avx2_is_refused(restarts: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(StageError, match=r"^precision: reproducible wants .* AVX2; fp32 runs here"):
        pins.apply()
    assert restarts == []


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16"])
def test_who_does_not_ask_is_left_alone(precision: str, restarts: list[Any], tmp_path: Path) -> None:
    choose_precision(tmp_path, precision)
    pins.apply()
    assert restarts == []


def test_a_stage_is_started_anew_once(restarts: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MINE", "stays")
    pins.apply()
    (environment,) = restarts
    assert pins.PINS.items() <= environment.items()
    assert environment["MINE"] == "stays"
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    pins.apply()
    assert len(restarts) == 1


def test_it_is_fp32_on_the_cpu_whatever_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose("reproducible") == (torch.device("cpu"), torch.float32)


def test_no_gpu_is_counted(restarts: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """`devices: auto` counts those that torch reads from this variable, whatever it said before."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert torch.cuda._parse_visible_devices() == [0, 1]
    pins.apply()
    (environment,) = restarts
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", environment["CUDA_VISIBLE_DEVICES"])
    assert torch.cuda._parse_visible_devices() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="says which cores a process may use")
def test_neither_cores_nor_caps_nor_threads_change_a_bit(run: Run, tmp_path: Path) -> None:
    """In the stages' own processes, as DVC starts them."""
    caps = {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "SSE4_2"}
    hashes = set()
    for number, (cores, environment) in enumerate(
        [({0}, {}), (os.sched_getaffinity(0), {"OMP_NUM_THREADS": "1"} | caps)]
    ):
        folder = tmp_path / str(number)
        shutil.copytree(run.prepared, folder / "data/prepared")
        choose_precision(folder, "reproducible")
        shutil.copy(ROOT / "pyproject.toml", folder)
        for stage in ("train", "evaluate", "export"):
            code = f"import os, sys; os.sched_setaffinity(0, {cores}); os.execv(sys.executable, sys.argv[1:])"
            command = [sys.executable, "-c", code, sys.executable, "-m", f"stages.{stage}"]
            done = subprocess.run(
                command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, capture_output=True,
                text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert "starting anew with AVX2 and 2 threads" in done.stdout
        hashes.add((sha256(folder / "models/network.pt"), sha256(folder / "models/model.onnx")))
    assert len(hashes) == 1
