from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import params
from stages.evaluate import evaluate
from stages.export import export
from stages.prepare import prepare
from stages.stage import StageError
from stages.train import train
from tests.conftest import ROOT

GOOD = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("lr", "fast", "a number, above 0"),
        ("lr", float("nan"), "a number"),
        ("lr", 0, "above 0"),
        ("epochs", 0, "at least 1"),
        ("epochs", 2.5, "a whole number"),
        ("epochs", True, "a whole number"),
        ("epochs", None, "a whole number"),
        ("val_fraction", 1.2, "below 1"),
        ("image_size", 30, "a multiple of 4"),
        ("dataset", "cifar", "one of fashion-mnist, image-folder, sketches"),
        ("data_dir", "", "a text"),
        ("seed", [1], "a whole number"),
    ],
)
def test_a_wrong_value_is_refused_by_key_value_and_what_is_allowed(key: str, value: Any, allowed: str) -> None:
    with pytest.raises(StageError) as error:
        params.check({**GOOD, key: value})
    message = str(error.value)
    assert "\n" not in message
    assert f"{key}: {value!r}" in message
    assert allowed in message


def test_an_unknown_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StageError, match=r"learning_rate: 1 is no param; the params are seed, .*lr"):
        params.check({**GOOD, "learning_rate": 1})


def test_a_missing_key_is_named() -> None:
    with pytest.raises(StageError, match="lr is missing; it is a number"):
        params.check({k: v for k, v in GOOD.items() if k != "lr"})


def test_each_wrong_key_has_a_line_of_its_own() -> None:
    with pytest.raises(StageError) as error:
        params.check({**GOOD, "lr": "fast", "epochs": 0})
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["lr: [", "- 1\n- 2\n", "", "\xff\xfe"])
def test_a_file_that_is_no_mapping_is_refused_in_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(text, encoding="latin-1")
    with pytest.raises(StageError, match=r"params\.yaml") as error:
        params.load(tmp_path / "params.yaml")
    assert "\n" not in str(error.value)


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"run from the folder that holds dvc\.yaml"):
        params.load(tmp_path / "params.yaml")


def test_a_bare_exponent_is_a_number() -> None:
    # PyYAML reads `1e-3`, which `dvc exp run -S lr=1e-3` may leave behind, as a string.
    assert params.check({**GOOD, **yaml.safe_load("lr: 1e-3")}).lr == 0.001


@pytest.mark.parametrize("stage", [prepare, train, evaluate, export])
def test_dvc_yaml_lists_exactly_the_params_a_stage_takes(stage: Any) -> None:
    listed = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][stage.__name__]["params"]
    assert [p for p in listed if isinstance(p, str)] == params.names(stage)


def test_every_knob_is_explained_and_used() -> None:
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    knobs = [line for line in lines if line and not line.startswith("#")]
    taken = {name for stage in (prepare, train, evaluate, export) for name in params.names(stage)}
    assert taken == set(params.Params.model_fields)
    assert all(
        "#" in line
        for line in knobs
        if line.split(":")[0] not in {"epochs", "batch_size", "weight_decay", "label_smoothing"}
    )


def test_the_params_here_are_right() -> None:
    params.load(ROOT / "params.yaml")
