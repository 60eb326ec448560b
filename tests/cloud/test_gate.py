"""The gate: what passes it, what does not, and why; on figures made up for it."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from deploy import evidence
from deploy.evidence import Evidence
from deploy.gate import Limits, Verdict, judge, mcnemar
from deploy.gcloud import CloudError
from deploy.registry import Version
from tests.app import tiny_model
from tests.conftest import ROOT

LIMITS = Limits.of(yaml.safe_load((ROOT / "invoke.yaml").read_text(encoding="utf-8"))["gate"])
NAMES = ("Shirt", "Coat")


def of(name: str, wrong: Sequence[int] = (), pictures: int = 1000, **changes: object) -> Evidence:
    """A version that is wrong on these pictures."""
    actual = tuple(NAMES[i % 2] for i in range(pictures))
    predicted = tuple(NAMES[(i + (i in set(wrong))) % 2] for i in range(pictures))
    made = Evidence(Version(name, "a" * 40, ""), "test", "prepared", actual, predicted, 0.02, 0.7, Path(name))
    return replace(made, **changes)


def takes(ratio: float) -> Callable[[Sequence[Path]], tuple[float, float, float]]:
    return lambda _: (0.001, 0.001 * ratio, ratio)


def compared(champion: Evidence, challenger: Evidence, ratio: float = 1.0) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in judge(champion, challenger, LIMITS, takes(ratio))}


def failed(champion: Evidence, challenger: Evidence, ratio: float = 1.0) -> dict[str, str]:
    return {name: v.said for name, v in compared(champion, challenger, ratio).items() if v.passed is False}


def test_significantly_worse_fails():
    said = failed(of("old", range(50)), of("new", range(100, 187)))
    assert list(said) == ["accuracy"]
    assert said["accuracy"].startswith("worse by more than chance: 50 won, 87 lost, p = 0.00")


def test_a_little_worse_on_few_pictures_fails_by_the_margin():
    """Of which no test says anything."""
    said = failed(of("old", range(2), 50), of("new", range(4), 50))
    assert said == {"accuracy": "worse by more than 1.0%: 0 won, 2 lost, p = 0.5"}


def test_a_little_worse_within_chance_passes():
    found = compared(of("old", range(50)), of("new", range(5, 60)))
    assert found["accuracy"].passed
    assert found["accuracy"].said == "no worse than chance explains: 5 won, 10 lost, p = 0.3"


def test_equal_and_better_pass():
    assert failed(of("old", range(50)), of("new", range(50))) == {}
    better = compared(of("old", range(50)), of("new", range(20)))
    assert better["accuracy"].said.startswith("better: 30 won, 0 lost")
    assert all(verdict.passed for verdict in better.values())


def test_the_same_mistakes_elsewhere_are_no_reason():
    """As many wrong, of other pictures: that is what the test is for, and not two shares side by side."""
    assert mcnemar([True] * 50 + [False] * 50, [False] * 50 + [True] * 50) == (50, 50, 1.0)


def test_the_exact_test_against_a_figure_worked_out_by_hand():
    """1 of 10: 2 * (1 + 10) / 2**10."""
    assert mcnemar([True] * 10 + [False], [False] * 9 + [True] * 2) == (9, 1, pytest.approx(22 / 1024))


@pytest.mark.parametrize(
    ("changes", "ratio", "said"),
    [
        ({"ece": 0.031}, 1.0, {"calibration error": "worse by more than 1.0%"}),
        ({"robustness": 0.68}, 1.0, {"robustness": "worse by more than 1.0%"}),
        ({}, 1.3, {"speed": "1.30 times as long, 1.25 is allowed"}),
    ],
)
def test_each_criterion_fails_alone(changes, ratio, said):
    assert failed(of("old"), of("new", **changes), ratio) == said


def test_robustness_that_was_not_measured_of_both_fails_nothing():
    for old, new in ((None, 0.1), (0.9, None), (None, None)):
        found = compared(of("old", robustness=old), of("new", robustness=new))["robustness"]
        assert (found.passed, found.said) == (None, "not measured of both")


@pytest.mark.parametrize(
    "changes",
    [{"test": "others", "prepared": "others"}, {"actual": tuple(reversed(of("x").actual))}],
    ids=["pictures", "order"],
)
def test_other_test_pictures_are_not_compared(changes):
    found = compared(of("old"), of("new", **changes))
    assert (found["accuracy"].said, found["accuracy"].passed) == ("other test pictures", False)
    assert found["calibration error"].passed is found["robustness"].passed is None
    assert found["speed"].passed


def test_more_pictures_to_train_on_are_no_other_test_pictures():
    assert failed(of("old"), of("new", prepared="more")) == {}


def test_without_a_champion_the_figures_are_told():
    first = judge(None, of("new", robustness=None), LIMITS, takes(9))
    assert [(v.champion, v.challenger, v.passed) for v in first] == [
        ("-", "100.00%", None),
        ("-", "2.00%", None),
        ("-", "-", None),
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"speed": 0.5}, r"invoke.yaml: gate.speed: Input should be greater than or equal to 1"),
        ({"accuracy": "much"}, r"gate.accuracy: Input should be a valid number"),
        ({"tolerance": 1}, r"gate.tolerance: Extra inputs are not permitted"),
    ],
)
def test_wrong_limits_are_named(values, said):
    with pytest.raises(CloudError, match=said) as error:
        Limits.of({**LIMITS.model_dump(), **values})
    assert "\n" not in str(error.value)


def test_without_scipy_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(CloudError, match=r"the package scipy is missing, .*: type `uv sync`"):
        mcnemar([True], [False])


# Speed


def test_models_take_turns(tmp_path):
    model = tiny_model.write(tmp_path / "models") / "model.onnx"
    times = evidence.race([model, model], rounds=3)
    assert [len(each) for each in times] == [3, 3]
    assert all(seconds > 0 for each in times for seconds in each)


def test_a_file_that_does_not_run_fails_the_gate_in_a_line(tmp_path):
    model = tiny_model.write(tmp_path / "models") / "model.onnx"
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    found = judge(of("old", model=model), of("new", model=tmp_path / "broken.onnx"), LIMITS)[-1]
    assert (found.name, found.passed) == ("speed", False)
    assert found.said.startswith("broken.onnx does not run: ")
    assert "\n" not in found.said
