import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from stages import batches
from stages import train as module
from stages.network import load
from stages.stage import StageError
from stages.train import assess, choose
from stages.world import World
from tests.conftest import ROOT, TRAIN, Run
from tests.stages.threads import together


def outs(run: Run) -> dict[str, bytes]:
    files = [run.models / "network.pt", *sorted((run.reports / "training").rglob("*.*"))]
    return {
        f.name if f.suffix == ".pt" else str(f.relative_to(run.reports)): f.read_bytes() for f in files if f.is_file()
    }


def test_a_loss_that_is_not_finite_stops_with_step_and_rate_and_leaves_no_result(
    fresh: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.F, "cross_entropy", lambda scores, *_, **__: scores.sum() * float("nan"))
    with pytest.raises(StageError, match=r"the loss is nan at step 1 of 24, learning rate [\d.e-]+: lower lr"):
        fresh.train()
    assert not (fresh.models / "network.pt").exists()
    assert not list(fresh.folder.glob(".atelier/checkpoints/*"))


def test_several_devices_want_a_launcher(fresh: Run) -> None:
    with pytest.raises(StageError, match=r"devices: 2 wants 2 processes: `python -m stages\.train` starts them"):
        fresh.train(devices=2)


def test_a_batch_smaller_than_the_world_is_refused(fresh: Run) -> None:
    recipe = {**TRAIN, "batch_size": 2}
    recipe.pop("devices")
    with pytest.raises(StageError, match="a batch of 2 pictures is too small for 3 processes: raise batch_size"):
        module.fit(
            World(size=3),
            torch.device("cpu"),
            torch.float32,
            fresh.prepared,
            fresh.models / "network.pt",
            fresh.reports / "training",
            fresh.reports / "speed",
            **recipe,
        )


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(StageError, match="2 processes want a GPU each; there are 1"):
        choose("auto", World(size=4, local_size=2))


def test_another_folder_ends_with_the_same_bytes(run: Run, fresh: Run) -> None:
    fresh.train()
    assert outs(fresh) == outs(run)
    assert not list(fresh.folder.glob(".atelier/checkpoints/*"))


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_stopped_after_an_epoch_it_goes_on_and_ends_with_the_same_bytes(
    epoch: int, run: Run, fresh: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class PowerCutError(Exception):
        pass

    save = module.checkpoint.save

    def cut(file: Path, state: dict[str, object]) -> None:
        save(file, state)
        if len(state.get("history", [])) == epoch + 1:
            raise PowerCutError

    with monkeypatch.context() as patched:
        patched.setattr(module.checkpoint, "save", cut)
        with pytest.raises(PowerCutError):
            fresh.train()
    # DVC deletes the outs before a stage runs again.
    for file in (fresh.reports / "training").rglob("*.tsv"):
        file.unlink()
    fresh.train()
    assert f"going on from epoch {epoch + 2}" in capsys.readouterr().out
    assert outs(fresh) == outs(run)


def test_a_checkpoint_of_other_inputs_is_not_used(
    fresh: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda *_, **__: None)  # leaves the finished run's checkpoint there
        fresh.train(epochs=1)
    fresh.train(epochs=1, lr=0.004)
    assert "going on" not in capsys.readouterr().out


def test_sigterm_saves_exits_143_and_the_next_run_ends_with_the_same_bytes(run: Run, fresh: Run) -> None:
    # The stage as a process of its own; its second step asks for its end.
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from stages import batches
from tests.conftest import Run
from pathlib import Path
augment, calls = batches.augment, []
def stop_in_second_step(*a):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    return augment(*a)
batches.augment = stop_in_second_step
Run(Path.cwd()).train()
"""
    # As many threads as here: another number gives other bits.
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert "stopped in epoch 1" in done.stdout
    assert not (fresh.models / "network.pt").exists()
    fresh.train()
    assert outs(fresh) == outs(run)


def test_a_picture_of_the_wrong_recipe_is_not_repeated(fresh: Run, run: Run) -> None:
    fresh.train(seed=2)
    assert outs(fresh)["network.pt"] != outs(run)["network.pt"]


@pytest.mark.parametrize("size", [2, 3])
def test_several_judge_a_split_as_one_does(size: int, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    network = load(str(run.models / "network.pt"))[0]
    split = batches.read_split(run.prepared, "train", torch.device("cpu"))
    in_order = batches.Split.in_order
    monkeypatch.setattr(batches.Split, "in_order", lambda self: in_order(self, 33))  # more batches than processes
    expected = assess(network, split, torch.float32)
    for loss, accuracy in together(size, lambda here: assess(network, split, torch.float32, here)):
        assert loss == pytest.approx(expected[0], rel=1e-6)
        assert accuracy == expected[1]


def test_it_learns(run: Run) -> None:
    lines = (run.reports / "training/plots/metrics/train/loss.tsv").read_text().splitlines()[1:]
    losses = [float(line.split("\t")[1]) for line in lines]
    assert losses == sorted(losses, reverse=True)


def test_bf16_is_taken_only_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for features, expected in (({}, torch.float32), ({"avx512_bf16": True}, torch.bfloat16)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda features=features: features)
        assert choose("auto")[1] == expected
    assert choose("fp32")[1] == torch.float32
    assert choose("bf16")[1] == torch.bfloat16


def test_training_in_bf16_works_on_any_cpu(fresh: Run) -> None:
    fresh.train(precision="bf16", epochs=1)
    assert (fresh.models / "network.pt").exists()
