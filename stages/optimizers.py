"""What moves the weights, and how far: Muon and AdamW, on a one-cycle schedule."""

import torch

from stages.muon import Muon
from stages.network import Network

WARM_UP = 0.2  # share of the steps in which the learning rate rises
MUON_SCALE = 10  # Muon's learning rate in units of AdamW's, which is `lr`


def make_optimizers(
    network: Network, lr: float, weight_decay: float, fused: bool = False
) -> list[torch.optim.Optimizer]:
    """Muon for the convolutions between features; AdamW for the first, which sees pixels, the head and the norms.

    Weight decay for what multiplies, none for shifts and scales. `peak` is what `one_cycle` scales. AdamW that is not
    `fused` takes its square roots from MKL, which on an AMD processor rounds them otherwise than on Intel's.
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
        fused=fused or None,  # else torch takes what is fast on the device
    )
    for optimizer in (muon, adamw):
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return [muon, adamw]


def one_cycle(step: int, steps: int) -> float:
    """Share of the peak learning rate: straight up to 1, straight down to nearly nothing (Smith, arXiv:1708.07120)."""
    done = (step + 1) / (steps + 1)
    return min(done / WARM_UP, (1 - done) / (1 - WARM_UP))
