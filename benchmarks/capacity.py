"""How many instances a rate of requests wants and what they cost: one instance measured, a fleet simulated.

`invoke bench --only capacity` measures an app on one processor, as Cloud Run gives it (start, service, saturation), and
simulates that one instance at three rates beside what was measured there, and then the fleet at three others.

The scaling is what cloud.google.com/run/docs/about-instance-autoscaling says: as many instances as keep the processors
at 60 % over a minute, or the requests in flight at 60 % of what an instance takes, whichever is more; and one more at
once where a request finds none that is free.
"""

import json
import math
import os
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import load, servers
from deploy.verify import machine

RESULTS = Path("benchmarks/results/capacity.json")
MODELS = Path("models")
TARGET = 0.6  # of the processor, and of the requests that an instance takes at a time
WINDOW = 60  # seconds that the autoscaler looks back
TICK = 0.1  # seconds to which billed time is rounded up
# US dollars, cloud.google.com/run/pricing, Tier 1, request-based billing, read in November 2026; no free tier.
CPU_SECOND, GIB_SECOND, REQUEST = 24e-6, 2.5e-6, 0.4e-6
MONTH = 30 * 24 * 3600
LEVEL = 0.25  # seconds: docs/watching.md
LOADS = (0.3, 0.6, 0.8)  # of saturation
ROUNDS, SECONDS = 5, 8  # of measuring, and of each load in one
RATES = (10, 1_000, 100_000)
LARGEST = 1_000  # requests a second that are simulated; a larger fleet is so many of these


@dataclass(frozen=True)
class Fleet:
    """What Cloud Run is told, as in deploy/service.yaml, and how long a start takes.

    Attributes:
        concurrency: requests that an instance takes at a time.
        least, most: instances.
        start: seconds until a new one answers.
        beyond: seconds that an answer takes beyond its processor time: the connection, waking up, the client.
    """

    concurrency: int = 16
    least: int = 0
    most: int = 1000
    start: float = 1.0
    beyond: float = 0.0


@dataclass
class _Instance:
    ready: float
    free: float = 0.0  # when its one processor is done with what it has
    leaving: deque[float] = field(default_factory=deque)  # when each of its requests is answered
    billed: float = 0.0
    paid_until: float = 0.0

    def take(self, now: float, service: float) -> float:
        """Answer one more request; when it is answered."""
        begin = max(now, self.ready, self.free)
        self.free = end = begin + service
        self.leaving.append(end)
        # Time with a request in it is paid, in whole ticks.
        if end > self.paid_until:
            start = max(now, self.paid_until)
            ticks = math.ceil((end - start) / TICK - 1e-9) * TICK
            self.billed += ticks
            self.paid_until = start + ticks
        return end

    def busy(self, now: float) -> int:
        while self.leaving and self.leaving[0] <= now:
            self.leaving.popleft()
        return len(self.leaving)


@dataclass(frozen=True)
class Run:
    """What a simulation brought.

    Attributes:
        latencies: seconds of each request.
        instances: how many there were, each second.
        billed: instance-seconds that are paid.
        seconds: how long it lasted.
    """

    latencies: NDArray[np.float64]
    instances: NDArray[np.int64]
    billed: float
    seconds: float

    def cost(self, gib: float = 1.0) -> float:
        """US dollars of a month like it; one processor and so many GiB an instance."""
        each = self.billed * (CPU_SECOND + gib * GIB_SECOND) + len(self.latencies) * REQUEST
        return each * MONTH / self.seconds


def poisson(rng: np.random.Generator, rate: float, seconds: float) -> NDArray[np.float64]:
    """Moments of requests that know nothing of each other."""
    return np.sort(rng.uniform(0, seconds, rng.poisson(rate * seconds)))


def simulate(arrivals: Sequence[float] | NDArray[np.float64], services: NDArray[np.float64], fleet: Fleet) -> Run:
    """Requests at `arrivals`, rising, which take the processor for `services` seconds, on a fleet that scales.

    An instance has one processor and answers in order. A request goes to the instance with the fewest in flight.
    """
    # With none that is kept, the first request finds one that starts.
    instances = [_Instance(0.0) for _ in range(fleet.least)] or [_Instance(fleet.start)]
    gone: list[_Instance] = []
    latencies, history = np.empty(len(arrivals)), []
    use: deque[tuple[float, float]] = deque()  # by second: processor time asked for, requests in flight
    asked, second = 0.0, 0
    for number, (now, service) in enumerate(zip(arrivals, services, strict=True)):
        while second < int(now):
            flight = sum(one.busy(second) for one in instances)
            use.append((asked, flight))
            asked = 0.0
            if len(use) > WINDOW:
                use.popleft()
            cpu, flying = (sum(entry[k] for entry in use) / len(use) for k in (0, 1))
            wanted = math.ceil(max(cpu / TARGET, flying / (TARGET * fleet.concurrency), fleet.least) - 1e-9)
            wanted = min(max(wanted, 1), fleet.most)
            instances += [_Instance(second + fleet.start) for _ in range(wanted - len(instances))]
            # Fewer, only once a whole window says so, and only those that have nothing to do.
            if len(use) == WINDOW and wanted < len(instances):
                idle = [one for one in instances if not one.busy(second)][: len(instances) - wanted]
                gone += idle
                instances = [one for one in instances if one not in idle]
            history.append(len(instances))
            second += 1
        best = min(instances, key=lambda one: (one.ready > now, one.busy(now)))
        full = best.ready > now or best.busy(now) >= fleet.concurrency
        starting = sum(one.ready > now for one in instances)
        if full and not starting and len(instances) < fleet.most:
            instances.append(_Instance(now + fleet.start))
        latencies[number] = best.take(now, service) - now + fleet.beyond
        asked += service
    seconds = float(arrivals[-1]) if len(arrivals) else 0.0
    billed = sum(one.billed for one in [*instances, *gone])
    return Run(latencies, np.array(history, np.int64), billed, seconds)


def summary(run: Run) -> dict[str, float]:
    """Percentiles in milliseconds, and the share within LEVEL."""
    return {
        "p50_ms": round(float(np.percentile(run.latencies, 50)) * 1000, 2),
        "p99_ms": round(float(np.percentile(run.latencies, 99)) * 1000, 2),
        "within": round(float((run.latencies <= LEVEL).mean()), 5),
    }


# Measuring


def _alone() -> Iterator[servers.Server]:
    """The app on one processor; this process, and what it starts later, on the others."""
    cores = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        model = json.loads((MODELS / "serve.json").read_text(encoding="utf-8"))["file"]
        served = servers.model_dir(Path(folder) / "models", MODELS, model)
        os.sched_setaffinity(0, cores[:1])
        try:
            with servers.running(servers.APP, {"MODEL_DIR": str(served), "LOG_FORMAT": "json"}) as server:
                os.sched_setaffinity(0, cores[1:] or cores)
                yield server
        finally:
            os.sched_setaffinity(0, cores)


def measure() -> dict[str, Any]:
    """Start, service and saturation of one instance, and its answers at LOADS of that; medians of ROUNDS."""
    asks = [load.Ask(load.upload("/v1/predict", "files", file.read_bytes()))
            for file in sorted((MODELS / "samples/test").glob("*.png"))]  # fmt: skip
    starts = []
    for _ in range(5):
        for server in _alone():
            while load.once(server.port, asks[0].raw) is None:
                time.sleep(0.005)
            starts.append(time.perf_counter() - server.started)
    with load.apart() as pool:
        for server in _alone():
            pool.submit(load.run_closed, server.port, asks, 4, 5).result()  # warm
            time.sleep(8)  # Gradio's import
            rounds = [_round(pool, server, asks) for _ in range(ROUNDS)]
    middle = {key: statistics.median(one[key] for one in rounds) for key in ("saturation", "cpu_ms", "beyond_ms")}
    services = np.concatenate([one["services"] for one in rounds])
    checks = [
        {
            "share": share,
            "lost": sum(one["checks"][k]["lost"] for one in rounds),
            **{
                who: {
                    key: round(statistics.median(one["checks"][k][who][key] for one in rounds), 5)
                    for key in ("p50_ms", "p99_ms", "within")
                }
                for who in ("measured", "simulated")
            },
        }
        for k, share in enumerate(LOADS)
    ]
    return {
        "start_s": round(statistics.median(starts), 2),
        **{key: round(value, 2) for key, value in middle.items()},
        "services_ms": [round(float(q) * 1000, 3) for q in np.quantile(services, np.linspace(0, 1, 201))],
        "checks": checks,
    }


def _round(pool: Executor, server: servers.Server, asks: Sequence[load.Ask]) -> dict[str, Any]:
    """Everything once, and its simulation: on a machine that others share, what is compared must lie close in time."""
    before = server.cpu_seconds()
    full = pool.submit(load.run_closed, server.port, asks, 16, 6).result()
    cpu = (server.cpu_seconds() - before) / full.answers
    single = pool.submit(load.run_closed, server.port, asks, 1, 3).result()
    # What one at a time takes is spread as the processor's share of it is, which many at a time tell.
    services = np.array(single.latencies) * (1 / full.rate) / statistics.fmean(single.latencies)
    at = [pool.submit(load.run_open, server.port, asks, full.rate * share, SECONDS).result() for share in LOADS]
    # Told by the lightest load, where nobody waits; at the others the simulation has to prove itself.
    beyond = max(0.0, statistics.median(at[0].latencies) - float(np.median(services)))
    checks = []
    for share, tally in zip(LOADS, at, strict=True):
        rate = full.rate * share
        arrivals = np.arange(int(rate * SECONDS)) / rate  # evenly, as they were sent
        drawn = np.random.default_rng(1).choice(services, len(arrivals))
        run = simulate(arrivals, drawn, Fleet(least=1, most=1, beyond=beyond))
        measured = Run(np.array(tally.latencies), run.instances, run.billed, run.seconds)
        checks.append({"measured": summary(measured), "simulated": summary(run), "lost": tally.lost.total()})
    return {
        "saturation": full.rate,
        "cpu_ms": cpu * 1000,
        "beyond_ms": beyond * 1000,
        "services": services,
        "checks": checks,
    }


def fleets(one: dict[str, Any]) -> list[dict[str, Any]]:
    """RATES on fleets of that instance: a minute from nothing, then ten minutes."""
    rng, rows = np.random.default_rng(2), []
    services = np.array(one["services_ms"]) / 1000
    fleet = Fleet(start=one["start_s"], beyond=one["beyond_ms"] / 1000)
    for rate in RATES:
        times = max(1, rate // LARGEST)
        arrivals = poisson(rng, rate / times, 660)
        run = simulate(arrivals, rng.choice(services, len(arrivals)), fleet)
        begun = arrivals < 60
        steady = Run(run.latencies[~begun], run.instances[60:], run.billed, run.seconds)
        rows.append(
            {
                "rate": rate,
                "instances": int(np.ceil(np.median(steady.instances)) * times),
                "instances_most": int(run.instances.max() * times),
                **summary(steady),
                "first_minute_within": round(float((run.latencies[begun] <= LEVEL).mean()), 4),
                "dollars_a_month": round(run.cost() * times),
            }
        )
    return rows


def main() -> None:
    """Measure, simulate, print, and write RESULTS."""
    if not (MODELS / "serve.json").is_file():
        raise SystemExit(f"capacity: {MODELS}/ holds no model: type `uv run dvc repro`")
    one = measure()
    found = {"machine": machine(), "one": one, "fleets": fleets(one)}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", "utf-8", newline="\n")
    print("\n".join(table(found)))


def table(found: dict[str, Any]) -> list[str]:
    """What was measured and what it comes to, in Markdown."""
    one = found["one"]
    lines = [
        f"One instance, one processor ({found['machine']}): the first answer {one['start_s']} s after the start, "
        f"{one['cpu_ms']} ms of processor time an answer and {one['beyond_ms']} ms beside it, {one['saturation']:,.0f} "
        "answers a second at most.",
        "",
        "| load of one instance | p50 measured, simulated | p99 measured, simulated |",
        "|---|---|---|",
    ]
    for check in one["checks"]:
        m, s = check["measured"], check["simulated"]
        lines.append(
            f"| {check['share']:.0%} | {m['p50_ms']:.1f} ms, {s['p50_ms']:.1f} ms | "
            f"{m['p99_ms']:.1f} ms, {s['p99_ms']:.1f} ms |"
        )
    lines += [
        "",
        "| requests a second | instances | p50 | p99 | within 250 ms | in the first minute | US dollars a month |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in found["fleets"]:
        lines.append(
            f"| {row['rate']:,} | {row['instances']:,} | {row['p50_ms']:.1f} ms | {row['p99_ms']:.1f} ms | "
            f"{row['within']:.2%} | {row['first_minute_within']:.1%} | {row['dollars_a_month']:,} |"
        )
    return lines


if __name__ == "__main__":
    main()
