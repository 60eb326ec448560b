"""`python -m stages.train`, with something that goes wrong in one of its processes.

TROUBLE says what, as JSON: `{"rank": 1, "epoch": 1, "step": 2, "what": "SIGKILL"}`. `what` is a signal, which the
process sends itself; `ask`, a SIGTERM to the process that started it; `raise`, an error that the stage would raise; or
`skew`, arithmetic that is not quite that of the others, from there on. It goes wrong once: not in what torchrun starts
anew. JOIN and SILENT are those of stages/rendezvous.py, in seconds.
"""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from stages import batches, rendezvous, train, world
from stages.launch import launch
from stages.muon import Muon
from stages.stage import StageError, run

augment = batches.augment
step_of_muon = Muon.step


def trouble(what: str) -> None:
    """Do what the test has asked for; the file `trouble` is as old as that."""
    Path("trouble").touch()
    if what == "raise":
        raise StageError("the disk is full")
    if what == "skew":
        Muon.step = skewed  # type: ignore[method-assign]
    elif what == "ask":
        os.kill(os.getppid(), signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.Signals[what])


@torch.no_grad()
def skewed(self: Muon, closure: Any = None) -> None:
    """A step that is off by what another processor's rounding may be."""
    step_of_muon(self, closure)
    for group in self.param_groups:
        for weight in group["params"]:
            weight.mul_(1 + 1e-6)


def main() -> None:
    """Run the stage; each of its processes looks for its own trouble."""
    sys.argv[0] = "train.py"  # as which it speaks
    rendezvous.JOIN = int(os.environ.get("JOIN", rendezvous.JOIN))
    rendezvous.SILENT = int(os.environ.get("SILENT", rendezvous.SILENT))
    train.launch = lambda _, place: launch([sys.executable, "-m", "tests.stages.worker"], place)
    anew = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    asked = {} if anew else json.loads(os.environ.get("TROUBLE", "{}"))
    place = world.find(1)

    def troubled(images: Any, flip: Any, level: str, key: tuple[int, ...], part: slice) -> Any:
        if asked and (place.rank, *key[2:]) == (asked["rank"], asked["epoch"], asked["step"]):
            trouble(asked["what"])
        return augment(images, flip, level, key, part)

    batches.augment = troubled
    run(train.main)


if __name__ == "__main__":
    main()
