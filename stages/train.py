"""train: data/prepared/ -> models/network.pt, and how it went in reports/training/.

Reads:  data/prepared/ (train and val)
Writes: models/network.pt    weights, class names, and the params they were made with
        reports/training/    dvclive: loss, accuracy and learning rate by epoch, for train and val
        reports/speed/       dvclive: pictures per second; a matter of the machine, so no out of the stage

Stopped at any moment, it goes on from the last finished epoch and ends with the same bits as if it had never
stopped: see `stages/checkpoint.py`. SIGTERM saves at once and exits with 143.
"""

import json
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from stages import batches, checkpoint, params
from stages.muon import Muon
from stages.network import Network
from stages.stage import StageError, log, read_json, run, sha256

WARM_UP = 0.2  # share of the steps in which the learning rate rises
MUON_SCALE = 10  # Muon's learning rate in units of AdamW's, which is `lr`
CHECK_EVERY = 50  # steps between looks at the loss; each look waits for the device
CODE = [Path(__file__).with_name(f"{name}.py") for name in ("train", "network", "batches", "muon")]


def train(
    prepared: Path,
    network_file: Path,
    curves: Path,
    speed: Path,
    *,
    seed: int,
    width: int,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    label_smoothing: float,
    augment: str,
    precision: str,
) -> None:
    """Train a network on the train split, watch it on the val split, write it whole or not at all.

    Raises:
        StageError: the loss is no longer finite.
        SystemExit: 143, after SIGTERM; the checkpoint is saved.
    """
    recipe = {k: v for k, v in locals().items() if k in params.names(train)}
    meta = read_json(prepared / "meta.json")
    device, dtype = choose(precision)
    log(f"training on {device.type} in {str(dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads")
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    torch.use_deterministic_algorithms(True, warn_only=device.type == "mps")  # which lacks some

    data = batches.read_split(prepared, "train", device)
    val = batches.read_split(prepared, "val", device)
    mirrored = batches.mirrored(seed, len(data))
    network = (
        Network(len(meta["classes"]), width, *pixel_statistics(data)).to(device).to(memory_format=torch.channels_last)
    )
    optimizers = make_optimizers(network, lr, weight_decay)
    steps = len(data) // min(batch_size, len(data))  # in an epoch

    inputs = {"data": meta["sha256"], "recipe": recipe, "code": sha256(*CODE), "torch": torch.__version__,
              "device": device.type, "dtype": str(dtype), "threads": torch.get_num_threads()}  # fmt: skip
    file = checkpoint.path(inputs)
    history: list[dict[str, float]] = []  # an entry for each finished epoch
    losses = torch.zeros(steps, device=device)  # of this epoch, by step; read only now and then
    hits = torch.zeros((), dtype=torch.int64, device=device)
    first = 0  # step to go on from
    if state := checkpoint.load(file, device):
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        history, first, losses, hits = state["history"], state["step"], state["losses"], state["hits"]
        log(f"going on from epoch {len(history) + 1}, step {first + 1}")
    record_curves(curves, history)

    def save(step: int) -> None:
        check_finite(losses, len(history) * steps, epochs * steps, lr)
        checkpoint.save(file, {"network": network.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                               "history": history, "step": step, "losses": losses, "hits": hits})  # fmt: skip

    asked_to_stop = listen_for_sigterm()
    while len(history) < epochs:
        epoch, started = len(history), time.perf_counter()
        network.train()
        todo = batches.order(seed, epoch, len(data), batch_size)
        for step in tqdm(range(first, steps), f"epoch {epoch + 1}/{epochs}", leave=False, disable=None):
            images, labels = data.take(todo[step])
            flip = mirrored[todo[step]] ^ bool(epoch % 2)
            images = batches.augment(images, flip, augment, (seed, 3, epoch, step))
            share = one_cycle(epoch * steps + step, epochs * steps)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * share
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                scores = network(images)
                loss = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
            network.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for optimizer in optimizers:
                optimizer.step()
            losses[step] = loss.detach()
            hits += (scores.argmax(1) == labels).sum()
            if step % CHECK_EVERY == 0:
                check_finite(losses, epoch * steps, epochs * steps, lr)
            if asked_to_stop:
                save(step + 1)
                log(f"stopped in epoch {epoch + 1}; `dvc repro` goes on from here")
                sys.exit(128 + signal.SIGTERM)

        rate = (steps - first) * len(todo[0]) / (time.perf_counter() - started)
        val_loss, val_accuracy = assess(network, val, dtype)
        if not math.isfinite(val_loss):  # the last step, whose loss nobody saw, may have been the bad one
            raise StageError(
                f"the validation loss is {val_loss} after step {(epoch + 1) * steps} of {epochs * steps}: lower lr "
                f"(it is {lr:g}); nothing was written"
            )
        entry = {
            "train/loss": losses.cpu().double().mean().item(),  # Apple's MPS has no doubles
            "train/accuracy": hits.item() / (steps * len(todo[0])),
            "val/loss": val_loss,
            "val/accuracy": val_accuracy,
            "lr": lr * one_cycle((epoch + 1) * steps - 1, epochs * steps),
        }
        log(
            f"epoch {epoch + 1}/{epochs}: train loss {entry['train/loss']:.4f}, accuracy {entry['train/accuracy']:.2%};"
            f" val loss {val_loss:.4f}, accuracy {val_accuracy:.2%}; lr {entry['lr']:.2g}; {rate:,.0f} pictures/s"
        )
        first, hits = 0, torch.zeros_like(hits)
        check_finite(losses, epoch * steps, epochs * steps, lr)
        history.append(entry)
        record_curves(curves, history)
        record_speed(speed, epoch, rate)
        save(0)

    # Through JSON, so that the pickled bytes do not tell which strings a resumed run had read from its checkpoint.
    record = json.loads(json.dumps({"classes": meta["classes"], "data": meta, "params": recipe, "val": history[-1]}))
    checkpoint.save(network_file, {"record": record, "state": network.cpu().state_dict()})
    file.unlink()


def choose(precision: str) -> tuple[torch.device, torch.dtype]:
    """Device and number format: the fastest that is there, unless `precision` names the format.

    A CPU gets bf16 only where it multiplies in bf16; elsewhere it is emulated, and slower than fp32.
    """
    if torch.cuda.is_available():
        device, native = torch.device("cuda"), torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        device, native = torch.device("mps"), False
    else:
        features = torch.cpu.get_capabilities()
        device, native = torch.device("cpu"), bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    bf16 = precision == "bf16" or (precision == "auto" and native)
    return device, torch.bfloat16 if bf16 else torch.float32


def pixel_statistics(data: batches.Split) -> tuple[float, float]:
    """Mean and standard deviation of all pixels, in 0..1; exact, from a histogram."""
    counts = np.zeros(256, np.int64)
    for images, _ in data.in_order():
        counts += torch.bincount(images.flatten().cpu(), minlength=256).numpy()
    levels = np.arange(256) / 255
    mean = float((counts * levels).sum() / counts.sum())
    variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
    return mean, max(variance, 1e-6) ** 0.5


def make_optimizers(network: Network, lr: float, weight_decay: float) -> list[torch.optim.Optimizer]:
    """Muon for the convolutions between features; AdamW for the first, which sees pixels, the head and the norms.

    Weight decay for what multiplies, none for shifts and scales. `peak` is what `one_cycle` scales.
    """
    weights = [p for p in network.parameters() if p.ndim > 1]
    hidden = [p for p in weights if p.ndim == 4 and p is not weights[0]]
    others = [weights[0], *(p for p in weights if p.ndim == 2)]
    vectors = [p for p in network.parameters() if p.ndim <= 1]
    muon = Muon(hidden, lr=MUON_SCALE * lr, weight_decay=weight_decay)
    adamw = torch.optim.AdamW(
        [{"params": others, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=lr,
        betas=(0.9, 0.99),
    )
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adamw]


def one_cycle(step: int, steps: int) -> float:
    """Share of the peak learning rate: straight up to 1, straight down to nearly nothing (Smith, arXiv:1708.07120)."""
    done = (step + 1) / (steps + 1)
    return min(done / WARM_UP, (1 - done) / (1 - WARM_UP))


def check_finite(losses: torch.Tensor, before: int, steps: int, peak: float) -> None:
    """Stop at the first loss that is NaN or infinite.

    Raises:
        StageError: with the step and the learning rate there.
    """
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = before + int(bad[0])
        raise StageError(
            f"the loss is {losses[bad[0]].item()} at step {step + 1} of {steps}, learning rate "
            f"{peak * one_cycle(step, steps):.3g}: lower lr (it is {peak:g}); nothing was written"
        )


@torch.no_grad()
def assess(network: Network, split: batches.Split, dtype: torch.dtype) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a split."""
    network.eval()
    loss, hits = 0.0, 0
    for images, labels in split.in_order():
        with torch.autocast(split.device.type, dtype, enabled=dtype != torch.float32):
            scores = network(images).float()
        loss += F.cross_entropy(scores, labels, reduction="sum").item()
        hits += int((scores.argmax(1) == labels).sum())
    return loss / len(split), hits / len(split)


def record_curves(folder: Path, history: list[dict[str, float]]) -> None:
    """Write the curves of all epochs so far: the same files whether or not the run was interrupted."""
    shutil.rmtree(folder, ignore_errors=True)
    with live(folder) as log_to:
        for entry in history:
            for name, value in entry.items():
                log_to.log_metric(name, value)
            log_to.next_step()


def record_speed(folder: Path, epoch: int, rate: float) -> None:
    """Append the pictures per second of an epoch."""
    if epoch == 0:
        shutil.rmtree(folder, ignore_errors=True)
    with live(folder, resume=epoch > 0) as log_to:
        log_to.step = epoch
        log_to.log_metric("pictures_per_second", rate)


def live(folder: Path, resume: bool = False) -> Any:
    """A dvclive logger that leaves dvc.yaml and experiments to DVC."""
    from dvclive.live import Live  # here, since it imports much of DVC
    from scmrepo.exceptions import SCMError

    try:
        return Live(str(folder), resume=resume, report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False)
    except SCMError as error:  # it reads the commit, and a repository may have none yet
        raise StageError(f"dvclive cannot read the git repository ({error}): commit once, then run again") from None


def listen_for_sigterm() -> list[int]:
    """A list that is empty until the process is asked to end."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    signal.signal(signal.SIGTERM, note)
    return received


def main() -> None:
    """Run the stage on params.yaml."""
    train(
        Path("data/prepared"),
        Path("models/network.pt"),
        Path("reports/training"),
        Path("reports/speed"),
        **params.of(train),
    )


if __name__ == "__main__":
    run(main)
