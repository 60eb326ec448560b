"""The traffic log, read back and judged: the app's own test on windows, over days and over all instances together."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import fastparquet
import fsspec
import numpy as np
import pandas
from scipy import stats

from app import drift
from app.classifier import PROJECTIONS, Classifier
from deploy.gcloud import CloudError, Shell
from deploy.names import Names

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
SPAN = timedelta(minutes=5)  # a file's rows are younger than its name says, by a minute or so
FALSE_ALARMS = 1 / 1000  # of clean windows, as the thresholds in reference.json are set
DOUBT = 0.01  # so many alarms or more come by chance so rarely: then it is no chance
MOST = 100_000  # entries that are asked of Cloud Logging at a time
COLUMNS = [
    *("time", "model", "version", "class", *drift.ORDERED, "label_set_size", "in_distribution"),
    *(f"projection_{d}" for d in range(PROJECTIONS)),
]


def since(text: str) -> timedelta:
    """`30m`, `12h`, `7d` or `2w` as a span of time.

    Raises:
        CloudError: it is none of these.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})([mhdw])", text)
    if not match:
        raise CloudError(f"--since {text}: a number with m, h, d or w, such as 7d")
    return timedelta(**{UNITS[match[2]]: int(match[1])})


def from_folder(folder: str, start: datetime) -> pandas.DataFrame:
    """The rows since `start` of the Parquet files in a folder, a local one or gs://…, oldest first.

    Raises:
        CloudError: there is no such folder, it cannot be read, or it holds no file of that time.
    """
    try:
        system, root = fsspec.core.url_to_fs(folder)
        files = sorted(system.glob(f"{root.rstrip('/')}/traffic-*.parquet"))
        first = f"{start - SPAN:%Y%m%dT%H%M%S}"
        names = [name for name in files if name.rpartition("/traffic-")[2] >= first]
        frames = []
        for name in names:
            with system.open(name, "rb") as file:
                frames.append(fastparquet.ParquetFile(file).to_pandas(COLUMNS))
    except Exception as error:  # noqa: BLE001 - whatever the bucket's client or the file's reader has
        raise CloudError(f"the traffic log in {folder} cannot be read: {' '.join(str(error).split())[:200]}") from None
    if not frames:
        what = "no traffic log" if not files else "no traffic log of that time"
        raise CloudError(f"{folder} holds {what}: the app writes it where TRAFFIC_DIR names the folder")
    frame = pandas.concat(frames, ignore_index=True)
    return frame[frame["time"] >= _naive(start)].sort_values("time", ignore_index=True)


def from_cloud(shell: Shell, names: Names, span: timedelta) -> pandas.DataFrame:
    """The rows of that last span from Cloud Logging, where the app runs with TRAFFIC_LOG=on, oldest first.

    Raises:
        CloudError: it cannot be asked, or has none.
    """
    found = shell.ask(read_log(names, span)) or []
    if not found:
        raise CloudError(f"Cloud Logging has no traffic of {names.service}: TRAFFIC_LOG has to be on there")
    frame = pandas.DataFrame([entry["jsonPayload"]["traffic"] for entry in found])[COLUMNS]
    frame["time"] = pandas.to_datetime(frame["time"]).dt.tz_convert(None)
    return frame.sort_values("time", ignore_index=True)


def read_log(names: Names, span: timedelta) -> list[str]:
    """Ask for what the service wrote on stdout, a JSON line a picture."""
    wanted = (
        f'resource.type="cloud_run_revision" AND resource.labels.service_name="{names.service}" '
        'AND jsonPayload.message="answered"'
    )
    return [
        *("gcloud", "logging", "read", wanted, f"--project={names.project}"),
        *(f"--freshness={int(span.total_seconds())}s", f"--limit={MOST}", "--format=json"),
    ]


@dataclass(frozen=True)
class Judged:
    """What a log says.

    Attributes:
        start, end: of the rows that were judged.
        rows: of the model that the reference is of.
        others: rows of other models, which were left out.
        ratios: window by window, each feature's statistic to its threshold, [W, 8] in the order of drift.NAMES.
        times: when each window was full.
        shares: class -> share in validation and in the log.
        unusual: share of pictures unlike what the model learnt from.
        chance: how likely so many alarms, or more, are in clean traffic; 1 where there is none.
    """

    start: datetime
    end: datetime
    rows: int
    others: int
    ratios: drift.Floats
    times: list[datetime]
    shares: Mapping[str, tuple[float, float]]
    unusual: float
    chance: float

    @property
    def alarms(self) -> int:
        """Windows beyond a threshold."""
        return int((self.ratios > 1).any(1).sum())

    @property
    def changed(self) -> bool:
        """Whether there are more alarms than chance has."""
        return self.alarms > 0 and self.chance < DOUBT

    @property
    def features(self) -> list[str]:
        """Those beyond their thresholds, the most frequent first, and of these the farthest."""
        often = (self.ratios > 1).sum(0)
        order = sorted(range(len(drift.NAMES)), key=lambda k: (-often[k], -self.ratios[:, k].max(initial=0)))
        return [drift.NAMES[k] for k in order if often[k]]


def judge(frame: pandas.DataFrame, reference: drift.Reference, classifier: Classifier) -> Judged:
    """Test the log window by window, as the app does.

    Raises:
        CloudError: none of its rows are of this model.
    """
    own = frame[frame["model"] == classifier.sha256]
    if own.empty:
        raise CloudError(
            f"none of the {len(frame):,} rows are of this model ({classifier.sha256[:8]}): name another with --models"
        )
    measured = drift.Measured(
        {name: own[name].to_numpy(np.float32) for name in drift.ORDERED},
        own["label_set_size"].to_numpy(np.int64),
        np.array([classifier.class_names.index(name) for name in own["class"]], np.int64),
        own[[f"projection_{d}" for d in range(PROJECTIONS)]].to_numpy(np.float32),
    )
    times = [moment.to_pydatetime().replace(tzinfo=UTC) for moment in own["time"]]
    ends = range(reference.window, len(own) + 1, reference.window)
    found = [reference.judge(_cut(measured, slice(end - reference.window, end))) for end in ends]
    ratios = np.stack(found) / reference.thresholds if found else np.empty((0, len(drift.NAMES)))
    alarms = int((ratios > 1).any(1).sum())
    expected = _validation_shares(reference)
    counted = np.bincount(measured.classes, minlength=len(classifier.class_names)) / len(own)
    return Judged(
        times[0],
        times[-1],
        len(own),
        len(frame) - len(own),
        ratios,
        [times[end - 1] for end in ends],
        dict(zip(classifier.class_names, zip(expected, counted.tolist(), strict=True), strict=True)),
        float((own["in_distribution"] < 0.01).mean()),
        float(stats.binom.sf(alarms - 1, len(ratios), FALSE_ALARMS)) if alarms else 1.0,
    )


def _validation_shares(reference: drift.Reference) -> list[float]:
    first = sum(map(len, reference.grid.values.values())) + drift.SIZES
    shares: list[float] = reference.means[first : first + reference.grid.classes].tolist()
    return shares


def _cut(measured: drift.Measured, part: slice) -> drift.Measured:
    return drift.Measured(
        {name: values[part] for name, values in measured.ordered.items()},
        measured.sizes[part],
        measured.classes[part],
        measured.projections[part],
    )


def _naive(moment: datetime) -> Any:
    """As the files have it: UTC, unsaid."""
    return pandas.Timestamp(moment).tz_convert(None)


def verdict(judged: Judged) -> str:
    """In a sentence or two."""
    windows = len(judged.ratios)
    if not windows:
        return f"{judged.rows:,} pictures: too few for one window, so nothing can be said"
    if not judged.alarms:
        return f"no change: none of {windows:,} windows lies beyond a threshold"
    chance = f"so many by chance: {judged.chance:.1%}" if judged.chance >= 0.001 else "chance does not do that"
    told = f"{judged.alarms:,} of {windows:,} windows lie beyond a threshold ({chance}): {', '.join(judged.features)}"
    return f"the pictures have changed: {told}" if judged.changed else f"no change to speak of: {told}"
