"""Which processes train together, and what they tell each other.

Three ways lead to a world of several processes; the first that is there counts:
- RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT, as torchrun and `stages/launch.py` set
  them;
- CLUSTER_SPEC, as Vertex AI sets it on each node of a custom job;
- the param `devices`, for several processes on this machine.

Sums over the world are gathered and added in the order of the ranks, whatever the back end: their bits depend on
how many processes there are, not on where these run. A world of one process sends nothing and changes nothing.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from stages.stage import StageError, log

LOST = 75  # exit status of a process that ends because another one did; EX_TEMPFAIL of sysexits.h
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class World:
    """The place of this process among those that train together.

    Attributes:
        rank: of this process, 0..size - 1; the first writes all files.
        size: how many processes there are, on all machines.
        local_rank: of this process among those of its machine.
        local_size: how many processes each machine has.
        host: of rank 0, where all meet.
        port: there.
        started: whether this is one of the processes already, or their launcher still.
        hosts: of the ranks, where known.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    host: str = LOOPBACK
    port: int = 0
    started: bool = True
    hosts: tuple[str, ...] = ()

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's share of `count` things."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def gather(self, values: Tensor) -> Tensor:
        """[...] of each process -> [size, ...], by rank, the same bits everywhere."""
        if self.size == 1:
            return values[None]
        own = values.contiguous().flatten()
        out = torch.empty(self.size * own.numel(), dtype=own.dtype, device=own.device)
        dist.all_gather_into_tensor(out, own)
        return out.view(self.size, *values.shape)

    def total(self, values: Tensor) -> Tensor:
        """Sum over the processes, in the order of their ranks."""
        return values if self.size == 1 else self.gather(values).sum(0)

    def from_first(self, data: bytes | None, device: torch.device) -> bytes | None:
        """What rank 0 has, everywhere."""
        if self.size == 1:
            return data
        length = torch.tensor([-1 if data is None else len(data)], device=device)
        dist.broadcast(length, 0)
        if length.item() <= 0:
            return None
        content = torch.frombuffer(bytearray(data or bytes(int(length))), dtype=torch.uint8).to(device)
        dist.broadcast(content, 0)
        return content.cpu().numpy().tobytes()

    def agree(self, what: str, values: Tensor) -> None:
        """Check that every process has the same.

        Raises:
            StageError: with the ranks that differ from rank 0, and `what` differs.
        """
        all_values = self.gather(values)
        others = [rank for rank in range(self.size) if not torch.equal(all_values[rank], all_values[0])]
        if others:
            raise StageError(f"{what} of {self.name(others)} differ from those of rank 0; nothing was written")

    def name(self, ranks: list[int]) -> str:
        """Ranks and, where known, their hosts, for people."""
        hosts = [f" ({self.hosts[rank]})" if rank < len(self.hosts) else "" for rank in ranks]
        return ", ".join(f"rank {rank}{host}" for rank, host in zip(ranks, hosts, strict=True))

    def say(self, message: str) -> None:
        """Log a line, once for all processes."""
        if self.first:
            log(message)


def find(devices: int | str, environment: Mapping[str, str] = os.environ) -> World:
    """Read the place of this process from its environment.

    Args:
        devices: processes on this machine, or `auto`: one a GPU, else one.
        environment: of the process.

    Raises:
        StageError: CLUSTER_SPEC or torchrun's variables make no sense.
    """
    if "RANK" in environment and "LOCAL_RANK" in environment:
        return _from_torchrun(environment)
    here = torch.cuda.device_count() if devices == "auto" else int(devices)
    here = max(here, 1)
    if not (spec := environment.get("CLUSTER_SPEC")):
        return World(size=here, local_size=here, started=here == 1)
    node, hosts, port = read_cluster_spec(spec)
    return World(
        rank=node * here,
        size=len(hosts) * here,
        local_size=here,
        host=hosts[0] if len(hosts) > 1 else LOOPBACK,
        port=port if len(hosts) > 1 else 0,
        started=here == 1,
        hosts=tuple(host for host in hosts for _ in range(here)),
    )


def _from_torchrun(environment: Mapping[str, str]) -> World:
    numbers = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT")
    try:
        rank, size, local_rank, local_size, port = (int(environment[name]) for name in numbers)
        host = environment["MASTER_ADDR"]
    except (KeyError, ValueError) as error:
        raise StageError(
            f"RANK is set, as by torchrun, but {error} is missing or no number: set all of {', '.join(numbers)} and "
            "MASTER_ADDR, or none"
        ) from None
    if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
        raise StageError(f"RANK={rank} of WORLD_SIZE={size}, LOCAL_RANK={local_rank} of {local_size}: no such place")
    return World(rank, size, local_rank, local_size, host, port)


def read_cluster_spec(text: str) -> tuple[int, list[str], int]:
    """Read Vertex AI's CLUSTER_SPEC.

    `{"cluster": {"workerpool0": ["host:port"], "workerpool1": ["host:port", ...]}, "task": {"type": "workerpool1",
    "index": 0, ...}, ...}`, says docs.cloud.google.com/vertex-ai/docs/training/distributed-training. Pools 2 and 3
    are for parameter servers and evaluators, which this training has not.

    Returns:
        The number of this node, the hosts of all nodes, the port of the first.

    Raises:
        StageError: it is no such thing.
    """

    def wrong(what: str) -> StageError:
        return StageError(f"CLUSTER_SPEC is wrong: {what}. Vertex AI sets it; unset it to train on this machine alone")

    try:
        spec = json.loads(text)
    except json.JSONDecodeError as error:
        raise wrong(f"it is no JSON ({error})") from None
    pools = spec.get("cluster") if isinstance(spec, dict) else None
    task = spec.get("task") if isinstance(spec, dict) else None
    if not isinstance(pools, dict) or not isinstance(task, dict):
        raise wrong("it has no `cluster` and `task`")
    pools = {name: nodes for name, nodes in pools.items() if nodes}
    if strange := [name for name, nodes in pools.items() if not isinstance(nodes, list)]:
        raise wrong(f"{strange[0]} is no list of addresses")
    if odd := sorted(set(pools) - {"workerpool0", "workerpool1"}):
        raise wrong(f"pool {odd[0]} has no work here; the nodes that train are in workerpool0 and workerpool1")
    nodes = [(name, index, address) for name in sorted(pools) for index, address in enumerate(pools[name])]
    if len(pools.get("workerpool0", [])) != 1:
        raise wrong("workerpool0 is not a list of one address")
    addresses = [str(address).rpartition(":") for *_, address in nodes]
    for (name, index, address), (host, _, port) in zip(nodes, addresses, strict=True):
        if not host or not (port.isdecimal() and 0 < int(port) < 65536):
            raise wrong(f"{address!r} of {name}, {index}, is not host:port")
    here = [n for n, (name, index, _) in enumerate(nodes) if (name, index) == (task.get("type"), task.get("index"))]
    if not here or isinstance(task.get("index"), bool):
        raise wrong(f"task {task.get('type')!r}, {task.get('index')!r}, is not in the cluster")
    return here[0], [host for host, *_ in addresses], int(addresses[0][2])


ALONE = World()
