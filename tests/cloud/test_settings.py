"""`-S key=value`: what is refused, and what params.yaml is afterwards."""

import os
import stat
from pathlib import Path

import pytest

from deploy import settings
from deploy.gcloud import CloudError

PARAMS = """\
# The first line.
seed: 1 # of everything random
dataset: sketches
data_dir: data/pictures
extra_dir: data/feedback
image_size: 28
val_fraction: 0.05
test_fraction: 0.15
sketches: 24000

# train
width: 96 # channels
epochs: 14
batch_size: 256
lr: 0.005 # peak
weight_decay: 0.02
label_smoothing: 0.1
augment: shift
precision: auto
devices: auto
coverage: 0.95
min_accuracy: 0.93
"""


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    return Path("params.yaml")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["colour=red"], "-S colour=red: 'colour' is no param; the params are seed, dataset, "),
        (["+lr=1"], "-S +lr=1: '+lr' is no param"),
        (["~lr"], "-S ~lr: '~lr' is no param"),
        (["train.lr=1"], "'train.lr' is no param"),
        (["=1"], "'' is no param"),
        (["lr"], "-S lr: give a value, as in -S lr=1e-3"),
        (["lr="], "-S lr=: give a value"),
        (["lr=0.1,0.2"], "-S lr: one value a run; `uv run invoke sweep --cloud --grid` takes several"),
        (["epochs=2", "lr=range(1,3)"], "-S lr: one value a run"),
        (["lr=[0.1,0.2]"], "-S: lr: "),
        (["lr={a: 1"], "-S lr={a: 1: cannot be read: "),
        (["epochs=0"], "-S: epochs: 0 is not allowed; it is "),
        (["epochs=many"], "-S: epochs: 'many' is not allowed; it is "),
        (["dataset=mnist"], "-S: dataset: 'mnist' is not allowed; it is "),
    ],
)
@pytest.mark.parametrize("does", [settings.check, settings.apply])
def test_what_cannot_be_is_said_in_a_line_and_changes_nothing(params, does, given, said):
    with pytest.raises(CloudError) as error:
        does(given)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert params.read_text() == PARAMS
    assert list(Path().iterdir()) == [params]


def test_each_wrong_value_has_its_line(params):
    with pytest.raises(CloudError) as error:
        settings.check(["epochs=0", "width=-1"])
    assert [line.split()[1] for line in str(error.value).splitlines()] == ["width:", "epochs:"]


@pytest.mark.parametrize("does", [settings.check, settings.apply])
def test_without_params_yaml_it_says_where_to_be(tmp_path, monkeypatch, does):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CloudError, match=r"params\.yaml is missing: run from the folder that holds dvc\.yaml"):
        does(["lr=1e-3"])


def test_a_wrong_params_yaml_is_said_though_nothing_is_chosen(params):
    params.write_text(PARAMS.replace("epochs: 14", "epochs: 0"), encoding="utf-8")
    with pytest.raises(CloudError, match="epochs: 0 is not allowed"):
        settings.check([])


def test_one_value_changes_and_every_other_byte_stays(params):
    settings.apply(["lr=1e-3", "augment=erase"])
    assert params.read_text() == PARAMS.replace("lr: 0.005", "lr: 0.001").replace("augment: shift", "augment: erase")


def test_a_setting_may_be_given_again(params):
    settings.apply(["lr=1e-3"])
    once = params.read_bytes()
    settings.apply(["lr=1e-3"])
    assert params.read_bytes() == once
    settings.apply(["lr=0.002", "lr=0.003"])  # as DVC does: the last one counts
    assert "lr: 0.003 " in params.read_text()


def test_a_value_may_hold_what_yaml_and_shells_read_otherwise(params):
    settings.apply(["data_dir=pictures/of mine"])
    assert "data_dir: pictures/of mine" in params.read_text()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such bits")
def test_the_file_keeps_who_may_read_it(params):
    params.chmod(0o640)
    settings.apply(["lr=1e-3"])
    assert stat.S_IMODE(params.stat().st_mode) == 0o640


def test_no_settings_touch_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings.apply([])
    assert list(tmp_path.iterdir()) == []
