"""What `invoke report` says: another run against this one, and what it does where the other's figures are not here."""

import json
from pathlib import Path

import pytest

from deploy import report
from deploy.gcloud import CloudError
from deploy.report import Comparison
from tests.github.conftest import Small


def accuracy(found: Comparison) -> tuple[float | None, float | None]:
    old, new = found.metrics["evaluation"]["accuracy"]
    return old, new


def again(small: Small, value: float) -> None:
    """Run with another param."""
    small.set(accuracy=value)
    small.dvc("repro")


def test_a_base_that_is_no_commit_is_said_in_a_line(small: Small) -> None:
    with pytest.raises(CloudError, match=r"^nowhere is no commit here: type `git fetch origin`") as error:
        report.compare("nowhere")
    assert "\n" not in str(error.value)


def test_without_a_run_there_is_nothing_to_report(small: Small) -> None:
    (small.folder / "reports/evaluation/metrics.json").unlink()
    small.forget()
    with pytest.raises(CloudError, match=r"reports/ holds no metrics: type `uv run dvc repro` first"):
        report.compare("HEAD")


def test_a_changed_param_and_what_it_did_stand_side_by_side(small: Small) -> None:
    again(small, 0.92)
    small.commit()
    found = report.compare("HEAD~1")
    assert accuracy(found) == (0.9, 0.92)
    assert found.params == {"params.yaml": {"accuracy": (0.9, 0.92)}}
    assert found.notes == []
    said = report.markdown(found, [("curves.png", "Loss by epoch")])
    assert said.startswith("## 92.00% right on the test split, 90.00% on HEAD~1: +2.00 points\n")
    assert "Outside the 95 % interval of HEAD~1, 89.00% to 91.00%." in said
    assert "| accuracy | 0.9000 | 0.9200 | +0.0200 |" in said
    assert said.endswith("![Loss by epoch](curves.png)\n")


def test_a_lock_that_was_not_committed_is_said(small: Small) -> None:
    again(small, 0.92)
    assert report.compare("HEAD").notes == [
        "`dvc.lock` as it is committed is not of this run: commit the one that `uv run dvc repro` writes."
    ]


def test_other_bits_from_the_same_inputs_are_no_change_to_commit(small: Small) -> None:
    lock = small.folder / "dvc.lock"
    head, outs, rest = lock.read_text().partition("outs:")
    at = rest.index("md5: ") + 5
    lock.write_text(head + outs + rest[:at] + "0" * 32 + rest[at + 32 :])
    small.commit()
    lock.write_text(head + outs + rest)
    assert report.compare("HEAD~1").notes == [
        "The run gave other bits than the committed `dvc.lock` has, as another processor does."
    ]


# The base's figures are not in the cache


def test_figures_that_nobody_has_are_missed_in_words(small: Small) -> None:
    again(small, 0.92)
    small.commit()
    small.forget()
    found = report.compare("HEAD~1")
    assert accuracy(found) == (None, 0.92)
    assert found.notes == ["The figures of HEAD~1 could not be had: there is no remote."]
    said = report.markdown(found, [])
    assert said.startswith("## 92.00% right on the test split\n")
    assert "| accuracy | - | 0.9200 |  |" in said


@pytest.mark.slow
def test_a_remote_that_has_them_is_asked(small: Small, tmp_path: Path) -> None:
    small.dvc("remote", "add", "--default", "storage", str(tmp_path / "remote"))
    small.dvc("push")
    small.commit()  # DVC reads the base with the base's own configuration
    again(small, 0.92)
    small.commit()
    small.forget()
    found = report.compare("HEAD~1")
    assert accuracy(found) == (0.9, 0.92)
    assert found.notes == ["The figures of HEAD~1 are from DVC's remote."]


@pytest.mark.slow
def test_a_remote_that_does_not_answer_is_not_waited_for(small: Small, tmp_path: Path) -> None:
    small.dvc("remote", "add", "--default", "storage", str(tmp_path / "remote"))
    small.commit()
    again(small, 0.92)
    small.commit()
    small.forget()
    found = report.compare("HEAD~1", patience=0.01)  # less than DVC needs to start
    assert found.notes == ["The figures of HEAD~1 could not be had: the remote did not answer within 0 s."]


@pytest.mark.slow
def test_published_figures_serve_where_no_remote_has_them(small: Small, tmp_path: Path) -> None:
    small.publish()
    small.commit()
    small.dvc("remote", "add", "--default", "storage", str(tmp_path / "empty"))
    again(small, 0.92)
    small.commit()
    small.forget()
    found = report.compare("HEAD~1")
    assert accuracy(found) == (0.9, 0.92)
    assert found.notes == ["The figures of HEAD~1 are those of its `docs/results.json`."]


@pytest.mark.slow
def test_figures_published_of_another_run_are_not_taken(small: Small) -> None:
    small.publish()
    published = json.loads((small.folder / "docs/results.json").read_text())
    published["md5"]["reports/evaluation"] = "0" * 32
    (small.folder / "docs/results.json").write_text(json.dumps(published))
    small.commit()
    again(small, 0.92)
    small.commit()
    small.forget()
    assert accuracy(report.compare("HEAD~1")) == (None, 0.92)


# Words


def measured(old: float | None, new: float | None) -> Comparison:
    metrics = {"accuracy": (old, new), "accuracy_low": (0.89, 0.9), "accuracy_high": (0.91, 0.92)}
    return Comparison("main", {"evaluation": metrics}, {})


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (0.9, 0.905, "Within the 95 % interval of main, 89.00% to 91.00%: chance alone may do that."),
        (0.9, 0.88, "Outside the 95 % interval of main, 89.00% to 91.00%."),
        (0.9, 0.9, ""),
        (0.9, None, ""),
    ],
)
def test_what_chance_may_do(old: float | None, new: float | None, said: str) -> None:
    assert report.chance(measured(old, new)) == said


def test_headlines() -> None:
    assert report.headline(measured(0.9, None)) == "No accuracy was measured"
    assert report.headline(measured(0.9, 0.9)) == "90.00% right on the test split, 90.00% on main: no change"
    assert report.headline(measured(0.9, 0.89)).endswith("on main: -1.00 points")


def test_a_value_cannot_end_its_cell() -> None:
    found = Comparison(
        "a|b", {}, {"params.yaml": {"data_dir": ("data\n## pictures", "x | y"), "augment": (None, True)}}
    )
    assert report.params_table(found).splitlines() == [
        "| | a\\|b | here |",
        "|---|--:|--:|",
        "| augment | - | True |",
        "| data_dir | data ## pictures | x \\| y |",
    ]


def test_figures_of_any_size_can_be_read() -> None:
    values = {"bytes": (1_328_237, 1_300_000), "difference": (4.8e-7, 4.8e-7), "served": ("a.onnx", "b.onnx"),
              "model_sha256": ("0", "1")}  # fmt: skip
    assert report.metrics_table(values, "main").splitlines()[2:] == [
        "| bytes | 1,328,237 | 1,300,000 | -28,237 |",
        "| difference | 4.8e-07 | 4.8e-07 |  |",
        "| served | a.onnx | b.onnx |  |",
    ]
