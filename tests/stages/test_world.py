import itertools
import json
from typing import Any

import pytest
import torch

from stages.stage import StageError
from stages.world import ALONE, LOOPBACK, World, find, read_cluster_spec
from tests.stages.threads import together

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
POOLS = {"workerpool0": ["first:2222"], "workerpool1": ["second:2222", "third:2222"]}


def spec(pools: Any = POOLS, kind: Any = "workerpool1", index: Any = 1) -> str:
    """CLUSTER_SPEC as Vertex AI sets it."""
    task = {"type": kind, "index": index, "trial": "", "cloud": "c1"}
    return json.dumps({"cluster": pools, "environment": "cloud", "task": task})


# What makes no sense


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "it is no JSON"),
        ("", "it is no JSON"),
        ("[]", "it has no `cluster` and `task`"),
        ("{}", "it has no `cluster` and `task`"),
        ('{"cluster": {"workerpool0": ["a:1"]}}', "it has no `cluster` and `task`"),
        ('{"cluster": [], "task": {}}', "it has no `cluster` and `task`"),
        ('{"cluster": {}, "task": null}', "it has no `cluster` and `task`"),
        (spec({"workerpool0": "first:2222"}), "workerpool0 is no list of addresses"),
        (spec({**POOLS, "workerpool1": {"a": 1}}), "workerpool1 is no list of addresses"),
        (spec({**POOLS, "workerpool2": ["server:2222"]}), "pool workerpool2 has no work here"),
        (spec({**POOLS, "chief": ["first:2222"]}), "pool chief has no work here"),
        (spec({"workerpool1": ["second:2222"]}), "workerpool0 is not a list of one address"),
        (spec({}), "workerpool0 is not a list of one address"),
        (spec({**POOLS, "workerpool0": ["a:1", "b:1"]}), "workerpool0 is not a list of one address"),
        (spec({**POOLS, "workerpool0": ["first"]}), "'first' of workerpool0, 0, is not host:port"),
        (spec({**POOLS, "workerpool0": [":2222"]}), "':2222' of workerpool0, 0, is not host:port"),
        (spec({**POOLS, "workerpool1": ["a:1", "b:x"]}), "'b:x' of workerpool1, 1, is not host:port"),
        (spec({**POOLS, "workerpool1": ["a:0"]}), "'a:0' of workerpool1, 0, is not host:port"),
        (spec({**POOLS, "workerpool1": ["a:65536"]}), "'a:65536' of workerpool1, 0, is not host:port"),
        (spec({**POOLS, "workerpool1": [None]}), "None of workerpool1, 0, is not host:port"),
        (spec(index=2), "task 'workerpool1', 2, is not in the cluster"),
        (spec(index=-1), "task 'workerpool1', -1, is not in the cluster"),
        (spec(index="1"), "task 'workerpool1', '1', is not in the cluster"),
        (spec(index=True), "task 'workerpool1', True, is not in the cluster"),
        (spec(index=None), "task 'workerpool1', None, is not in the cluster"),
        (spec(kind="workerpool3"), "task 'workerpool3', 1, is not in the cluster"),
    ],
)
def test_a_cluster_spec_that_makes_no_sense_is_refused_in_a_line(text: str, said: str) -> None:
    with pytest.raises(StageError) as error:
        read_cluster_spec(text)
    message = str(error.value)
    assert message.startswith("CLUSTER_SPEC is wrong: ")
    assert said in message
    assert message.endswith("Vertex AI sets it; unset it to train on this machine alone")
    assert "\n" not in message


@pytest.mark.parametrize("name", sorted(set(TORCHRUN) - {"RANK", "LOCAL_RANK"}))
def test_a_variable_of_torchrun_that_is_missing_is_named(name: str) -> None:
    with pytest.raises(StageError, match=f"RANK is set, as by torchrun, but '{name}' is missing"):
        find(1, {key: value for key, value in TORCHRUN.items() if key != name})


@pytest.mark.parametrize("name", sorted(set(TORCHRUN) - {"MASTER_ADDR"}))
def test_a_variable_of_torchrun_that_is_no_number_is_shown(name: str) -> None:
    with pytest.raises(StageError, match=r"'one' is missing or no number: set all of RANK, .* or none"):
        find(1, {**TORCHRUN, name: "one"})


@pytest.mark.parametrize(
    "changes",
    [
        {"RANK": "4"},
        {"RANK": "-1"},
        {"WORLD_SIZE": "0"},
        {"LOCAL_RANK": "2"},
        {"LOCAL_WORLD_SIZE": "5", "LOCAL_RANK": "4"},
    ],
)
def test_a_rank_outside_its_world_is_refused(changes: dict[str, str]) -> None:
    with pytest.raises(StageError, match="no such place"):
        find(1, TORCHRUN | changes)


def test_what_differs_from_rank_0_is_named_with_its_host() -> None:
    class Differing(World):
        def gather(self, values: torch.Tensor) -> torch.Tensor:
            return torch.stack([values, values + 1, values, values + 1])

    here = Differing(size=4, hosts=("a", "b", "c", "d"))
    with pytest.raises(StageError, match=r"data of rank 1 \(b\), rank 3 \(d\) differ from those of rank 0; nothing"):
        here.agree("data", torch.zeros(3))


# Where a process stands


def test_torchrun_counts_before_all_else() -> None:
    found = find(8, {**TORCHRUN, "CLUSTER_SPEC": spec()})
    assert found == World(rank=3, size=4, local_rank=1, local_size=2, host="10.0.0.1", port=29500)
    assert found.started


def test_a_rank_without_a_local_one_is_somebody_elses_variable() -> None:
    assert find(1, {"RANK": "3"}) == ALONE


@pytest.mark.parametrize(
    ("kind", "index", "rank"), [("workerpool0", 0, 0), ("workerpool1", 0, 2), ("workerpool1", 1, 4)]
)
def test_a_cluster_spec_gives_each_node_its_ranks(kind: str, index: int, rank: int) -> None:
    found = find(2, {"CLUSTER_SPEC": spec(kind=kind, index=index)})
    assert (found.rank, found.size, found.local_size) == (rank, 6, 2)
    assert (found.host, found.port) == ("first", 2222)
    assert found.hosts == ("first", "first", "second", "second", "third", "third")
    assert found.name([0, 3]) == "rank 0 (first), rank 3 (second)"
    assert not found.started
    assert find(1, {"CLUSTER_SPEC": spec(kind=kind, index=index)}).started


def test_pools_that_are_empty_are_none() -> None:
    pools = {"workerpool0": ["first:2222"], "workerpool1": [], "workerpool2": None}
    assert read_cluster_spec(spec(pools, "workerpool0", 0)) == (0, ["first"], 2222)


def test_a_cluster_of_one_node_meets_on_its_own_loopback() -> None:
    found = find(2, {"CLUSTER_SPEC": spec({"workerpool0": ["first:2222"]}, "workerpool0", 0)})
    assert (found.size, found.host, found.port) == (2, LOOPBACK, 0)


@pytest.mark.parametrize(
    ("devices", "gpus", "size"), [("auto", 0, 1), ("auto", 4, 4), (1, 4, 1), (3, 0, 3), ("2", 0, 2)]
)
def test_auto_is_a_process_for_each_gpu(
    devices: int | str, gpus: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    found = find(devices, {})
    assert (found.rank, found.size, found.local_size, found.started) == (0, size, size, size == 1)


# What they do


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 1, 6, 7, 256])
def test_the_parts_are_everything_once_and_nearly_equal(size: int, count: int) -> None:
    parts = [list(range(count))[World(rank=rank, size=size).part(count)] for rank in range(size)]
    assert list(itertools.chain(*parts)) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_alone_nothing_is_sent_and_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    values, data = torch.arange(3.0), b"state"
    assert ALONE.total(values) is values
    assert ALONE.gather(values).data_ptr() == values.data_ptr()
    assert ALONE.gather(values).shape == (1, 3)
    assert ALONE.from_first(data, torch.device("cpu")) is data
    assert ALONE.from_first(None, torch.device("cpu")) is None
    ALONE.agree("anything", values)
    ALONE.say("once")
    assert capsys.readouterr().out == "once\n"
    World(rank=1, size=2).say("once")
    assert capsys.readouterr().out == ""


def test_a_sum_is_added_in_the_order_of_the_ranks_on_all_of_them() -> None:
    shares = [torch.tensor([1e8, 0.1]), torch.tensor([1.0, 0.2]), torch.tensor([-1e8, 0.3])]
    sums = together(3, lambda here: here.total(shares[here.rank]))
    expected = (shares[0] + shares[1]) + shares[2]
    assert all(torch.equal(found, expected) for found in sums)
