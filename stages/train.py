"""train: data/prepared/ -> models/network.pt, and how it went in reports/training/.

Reads:  data/prepared/ (train and val)
Writes: models/network.pt    weights, class names, and the params they were made with
        reports/training/    dvclive: loss, accuracy and learning rate by epoch, for train and val
        reports/speed/       dvclive: pictures per second; a matter of the machine, so no out of the stage

Stopped at any moment, it goes on from the last finished epoch and ends with the same bits as if it had never
stopped: see `stages/checkpoint.py`. SIGTERM saves at once and exits with 143.

Several processes, here or on several machines, share every batch: see `stages/world.py` and docs/training.md.
"""

import hashlib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.deterministic
from tqdm import tqdm

from stages import batches, batchnorm, checkpoint, params, pins, world
from stages.curves import record_curves, record_speed
from stages.launch import launch
from stages.network import Network
from stages.optimizers import make_optimizers, one_cycle
from stages.rendezvous import join
from stages.stage import StageError, read_json, run, sha256
from stages.world import ALONE, World

CHECK_EVERY = 50  # steps between looks at the loss; each look waits for the device
LEARNING = ("train", "network", "batches", "batchnorm", "muon", "optimizers")
CODE = [Path(__file__).with_name(f"{name}.py") for name in LEARNING]  # a checkpoint fits what it was made by


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
    devices: int | str,
) -> None:
    """Train a network on the train split, watch it on the val split, write it whole or not at all.

    With several processes, this is one of them, and only that of rank 0 writes.

    Raises:
        StageError: the loss is no longer finite, or the processes do not come together.
        SystemExit: 143, after SIGTERM; the checkpoint is saved. 75, when another process is gone.
    """
    recipe = {k: v for k, v in locals().items() if k in params.names(train) and k != "devices"}
    place = world.find(devices)
    if not place.started:
        raise StageError(f"devices: {devices} wants {place.local_size} processes: `python -m stages.train` starts them")
    device, dtype = choose(precision, place)
    with join(place, device) as here:
        fit(here, device, dtype, prepared, network_file, curves, speed, **recipe)


def fit(
    here: World,
    device: torch.device,
    dtype: torch.dtype,
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
    """`train`, in one of the processes that share it."""
    recipe = {k: v for k, v in locals().items() if k in params.names(fit)}
    meta = read_json(prepared / "meta.json")
    threads = torch.get_num_threads()
    shared = f", {here.size} processes" if here.size > 1 else ""
    here.say(f"training on {device.type} in {str(dtype).removeprefix('torch.')}, {threads} threads{shared}")
    torch.manual_seed(seed)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS is not deterministic
    # As use_deterministic_algorithms, which would load torch's compiler as well: 1.7 s.
    torch.set_deterministic_debug_mode("warn" if device.type == "mps" else "error")  # which lacks some
    # Else new memory is filled before it is written: a tenth of a step, for an operator that might forget to write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]

    data = batches.read_split(prepared, "train", device)
    val = batches.read_split(prepared, "val", device)
    mirrored = batches.mirrored(seed, len(data))
    network = Network(len(meta["classes"]), width, *pixel_statistics(data))
    network = network.to(device).to(memory_format=torch.channels_last)
    optimizers = make_optimizers(network, lr, weight_decay, fused=precision == "reproducible")
    size = min(batch_size, len(data))
    steps = len(data) // size  # in an epoch
    if here.size > 1:
        if size < here.size:
            raise StageError(f"a batch of {size} pictures is too small for {here.size} processes: raise batch_size")
        batchnorm.spread(network, here)

    inputs = {"data": meta["sha256"], "recipe": recipe, "code": sha256(*CODE), "torch": torch.__version__,
              "device": device.type, "dtype": str(dtype)}  # fmt: skip
    here.agree("data, params, code or number format", digest(json.dumps(inputs, sort_keys=True).encode(), device))
    file = checkpoint.path(inputs)
    made_by = {"processes": here.size, "threads": threads}
    history: list[dict[str, float]] = []  # an entry for each finished epoch
    losses = torch.zeros(steps, device=device)  # of this epoch, by step; read only now and then
    hits = torch.zeros((), dtype=torch.int64, device=device)
    first = 0  # step to go on from
    if saved_bytes := here.from_first(checkpoint.find(file) if here.first else None, device):
        state = checkpoint.parse(saved_bytes, device)
        network.load_state_dict(state["network"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        history, first, losses, hits = state["history"], state["step"], state["losses"], state["hits"]
        here.say(f"going on from epoch {len(history) + 1}, step {first + 1}")
        if state["made_by"] != made_by:
            here.say(f"made by {counts(state['made_by'])}, going on with {counts(made_by)}: the bits will be others")
    if here.first and history:  # without, dvclive need not be loaded before the first step
        record_curves(curves, history)

    def save(step: int) -> None:
        check_finite(losses, len(history) * steps, epochs * steps, lr)
        if here.first:
            checkpoint.save(file, {"network": network.state_dict(), "optimizers": [o.state_dict() for o in optimizers],
                                   "history": history, "step": step, "losses": losses, "hits": hits,
                                   "made_by": made_by})  # fmt: skip
            checkpoint.copy(file)

    asked_to_stop = listen_for_sigterm()
    part = here.part(size)
    share = (part.stop - part.start) / size
    while len(history) < epochs:
        epoch, started = len(history), time.perf_counter()
        network.train()
        todo = batches.order(seed, epoch, len(data), batch_size)
        hidden = None if here.first else True  # None: shown on a terminal
        for step in tqdm(range(first, steps), f"epoch {epoch + 1}/{epochs}", leave=False, disable=hidden):
            images, labels = data.take(todo[step][part])
            flip = mirrored[todo[step]] ^ bool(epoch % 2)
            images = batches.augment(images, flip, augment, (seed, 3, epoch, step), part)
            rate_now = one_cycle(epoch * steps + step, epochs * steps)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * rate_now
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                scores = network(images)
                loss = F.cross_entropy(scores, labels, label_smoothing=label_smoothing)
            right = (scores.argmax(1) == labels).sum()
            stop = bool(asked_to_stop)
            network.zero_grad()
            if here.size == 1:
                loss.backward()  # type: ignore[no-untyped-call]
            else:
                (loss * share).backward()
                loss, right, stop = exchange(here, network, loss * share, right, stop, step)
            for optimizer in optimizers:
                optimizer.step()
            losses[step] = loss.detach()
            hits += right
            if step % CHECK_EVERY == 0:
                check_finite(losses, epoch * steps, epochs * steps, lr)
            if stop:
                save(step + 1)
                here.say(f"stopped in epoch {epoch + 1}; `dvc repro` goes on from here")
                sys.exit(128 + signal.SIGTERM)

        rate = (steps - first) * size / (time.perf_counter() - started)
        val_loss, val_accuracy = assess(network, val, dtype, here)
        if not math.isfinite(val_loss):  # the last step, whose loss nobody saw, may have been the bad one
            raise StageError(
                f"the validation loss is {val_loss} after step {(epoch + 1) * steps} of {epochs * steps}: lower lr "
                f"(it is {lr:g}); nothing was written"
            )
        entry = {
            "train/loss": losses.cpu().double().mean().item(),  # Apple's MPS has no doubles
            "train/accuracy": hits.item() / (steps * size),
            "val/loss": val_loss,
            "val/accuracy": val_accuracy,
            "lr": lr * one_cycle((epoch + 1) * steps - 1, epochs * steps),
        }
        here.say(
            f"epoch {epoch + 1}/{epochs}: train loss {entry['train/loss']:.4f}, accuracy {entry['train/accuracy']:.2%};"
            f" val loss {val_loss:.4f}, accuracy {val_accuracy:.2%}; lr {entry['lr']:.2g}; {rate:,.0f} pictures/s"
        )
        first, hits = 0, torch.zeros_like(hits)
        check_finite(losses, epoch * steps, epochs * steps, lr)
        if here.size > 1:
            weights = torch.cat([p.detach().flatten() for p in network.parameters()]).cpu().numpy().tobytes()
            here.agree("the weights", digest(weights, device))  # another processor's arithmetic would part them
        history.append(entry)
        save(0)
        if here.first:
            record_curves(curves, history)
            record_speed(speed, epoch, rate)

    if not here.first:
        return
    # Through JSON, so that the pickled bytes do not tell which strings a resumed run had read from its checkpoint.
    record = json.loads(json.dumps({"classes": meta["classes"], "data": meta, "params": recipe, "val": history[-1]}))
    checkpoint.save(network_file, {"record": record, "state": network.cpu().state_dict()})
    file.unlink(missing_ok=True)  # a copy may have been all there was


def exchange(
    here: World, network: Network, loss: torch.Tensor, right: torch.Tensor, stop: bool, step: int
) -> tuple[torch.Tensor, torch.Tensor, bool]:
    """Give every process the gradients, the loss and the hits of the whole batch, and what one was asked to do.

    All in one message. On a GPU the wish to stop is looked at now and then only, since each look waits for it.
    """
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    own = torch.stack([loss.detach(), right.to(loss.dtype), torch.full_like(loss, stop)]).to(grads[0].dtype)
    total = here.total(torch.cat([*(grad.flatten() for grad in grads), own]))
    *parts, figures = torch.split(total, [*(grad.numel() for grad in grads), len(own)])
    for grad, part in zip(grads, parts, strict=True):
        grad.copy_(part.view_as(grad))
    loss, hits, wishes = figures.unbind()
    look = total.device.type == "cpu" or step % CHECK_EVERY == 0
    return loss, hits.long(), look and wishes.item() > 0


def digest(data: bytes, device: torch.device) -> torch.Tensor:
    """SHA-256 of bytes as a tensor, uint8 [32]."""
    return torch.frombuffer(bytearray(hashlib.sha256(data).digest()), dtype=torch.uint8).to(device)


def counts(made_by: dict[str, int]) -> str:
    """Say how many processes and threads."""
    return f"{made_by['processes']} x {made_by['threads']} threads"


def choose(precision: str, place: World = ALONE) -> tuple[torch.device, torch.dtype]:
    """Device and number format: the fastest that is there, unless `precision` names the format.

    A CPU gets bf16 only where it multiplies in bf16; elsewhere it is emulated, and slower than fp32. `reproducible` is
    fp32 on the CPU, since no two kinds of GPU agree to the bit.

    Raises:
        StageError: more processes than GPUs.
    """
    if precision == "reproducible":
        return torch.device("cpu"), torch.float32
    if torch.cuda.is_available():
        if place.local_size > torch.cuda.device_count():
            raise StageError(f"{place.local_size} processes want a GPU each; there are {torch.cuda.device_count()}")
        device = torch.device("cuda", place.local_rank) if place.size > 1 else torch.device("cuda")
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available() and place.size == 1:  # gloo does not know it
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
def assess(network: Network, split: batches.Split, dtype: torch.dtype, here: World = ALONE) -> tuple[float, float]:
    """Mean cross-entropy and accuracy on a split, whose batches the processes deal out."""
    network.eval()
    figures: list[tuple[float, int]] = []
    for number, (images, labels) in enumerate(split.in_order()):
        if number % here.size != here.rank:
            figures.append((0.0, 0))
            continue
        with torch.autocast(split.device.type, dtype, enabled=dtype != torch.float32):
            scores = network(images).float()
        loss = F.cross_entropy(scores, labels, reduction="sum").item()
        figures.append((loss, int((scores.argmax(1) == labels).sum())))
    if here.size > 1:
        figures = here.total(torch.tensor(figures, dtype=torch.float64, device=split.device)).tolist()
    return sum(loss for loss, _ in figures) / len(split), int(sum(hits for _, hits in figures)) / len(split)


def listen_for_sigterm() -> list[int]:
    """A list that is empty until the process is asked to end."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    signal.signal(signal.SIGTERM, note)
    return received


def main() -> None:
    """Run the stage on params.yaml, in as many processes as it says."""
    pins.apply()
    values = params.of(train)
    place = world.find(values["devices"])
    if not place.started:
        launch([sys.executable, "-m", "stages.train"], place)
        return
    train(
        Path("data/prepared"),
        Path("models/network.pt"),
        Path("reports/training"),
        Path("reports/speed"),
        **values,
    )


if __name__ == "__main__":
    run(main)
