"""A run's ID becomes a label, a folder of the bucket and a word of a command."""

from datetime import UTC, datetime

import pytest

from deploy import runs
from deploy.gcloud import CloudError
from deploy.training import must_be_id

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NOW = datetime(2026, 11, 25, 9, 8, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    "word",
    ["", "-", "-a", "a-", "A", "a_b", "a.b", "a/b", "../a", "a b", "a\n", "ä", "a*", "$(a)", "a" * 63],
)
def test_what_is_no_id_is_refused_with_an_example(word):
    assert not runs.is_id(word)
    with pytest.raises(CloudError, match=r"is no run's ID: that is what `train --cloud` said, such as \d{8}-") as error:
        must_be_id(word)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("word", ["a", "7", "a-b", "a" * 62, "20261125-090807-01234567-01"])
def test_what_may_be_an_id(word):
    assert runs.is_id(word)
    must_be_id(word)


def test_a_new_id_tells_when_and_of_what():
    assert runs.new_id(COMMIT, NOW) == "20261125-090807-01234567"
    assert runs.is_id(runs.new_id(COMMIT))
    later = runs.new_id(COMMIT, NOW.replace(second=8))
    assert sorted([later, runs.new_id(COMMIT, NOW)])[-1] == later  # a list of runs is in the order of time


def test_where_a_run_leaves_what():
    assert runs.file("demo", "a-1", "dvc.lock") == "gs://demo/runs/a-1/dvc.lock"
    assert runs.remote("demo") == "gs://demo/dvc"
