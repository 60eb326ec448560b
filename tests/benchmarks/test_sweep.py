"""What the benchmark of a sweep asks for, and what it says."""

from benchmarks import sweep
from stages import params


def points(first: float) -> set[str]:
    return set(sweep.grid(first).removeprefix("lr=").split(","))


def test_the_two_grids_share_no_point_which_dvc_would_not_run_again() -> None:
    assert len(points(sweep.TOGETHER)) == len(points(sweep.ALONE)) == sweep.POINTS
    assert not points(sweep.TOGETHER) & points(sweep.ALONE)


def test_no_point_of_a_grid_is_the_run_that_the_clone_comes_with() -> None:
    assert f"{params.load().lr:.6f}" not in points(sweep.TOGETHER) | points(sweep.ALONE)


def test_the_table_says_how_much_longer_one_after_the_other_takes() -> None:
    found = {"machine": "a machine", "cores": 2, "points": 24, "side_by_side": 100.0, "one_by_one": 130.0}
    assert sweep.table(found)[2:] == [
        "| as many at a time as there are cores, a thread each | 100 s |",
        "| one after the other, all threads each | 130 s, 1.30 times as long |",
    ]
