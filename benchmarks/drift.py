"""The app's drift tests on real pictures: how often they cry wolf, and after how many pictures they see a change.

Clean windows are drawn from the test split, of which nothing was used to set a threshold. `invoke bench --only drift`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from app import drift
from app.classifier import Classifier
from benchmarks import unlike
from stages.corruptions import corrupt

CLEAN = 20_000  # windows
TRIALS = 400  # streams a change
MOST = 20  # windows of a stream, after which it was not seen
RESULTS = Path("benchmarks/results/drift.json")
Pixels = NDArray[np.uint8]


def changes(pictures: Pixels, labels: NDArray[np.int64], size: tuple[int, int]) -> dict[str, Pixels]:
    """Pictures as they come after each change."""
    rng, tensor = np.random.default_rng(2), torch.from_numpy(pictures)

    def mixed(strange: Pixels, share: float) -> Pixels:
        count = round(len(strange) * (1 - share) / share)
        return np.concatenate([strange, pictures[rng.permutation(len(pictures))[:count]]])

    letters = unlike.drawn("ABCDEFGHKMNPRSTUVWXYZ", size, rng)
    return {
        "inverted": 255 - pictures,
        **{
            f"{kind}, severity {severity}": corrupt(tensor, kind, severity, 1).numpy()
            for kind, severity in (("blur", 1), ("blur", 3), ("noise", 1), ("noise", 3), ("rotate", 2), ("rotate", 4))
        },
        "a class of ten is gone": pictures[labels != 8],
        "a tenth are letters": mixed(letters, 0.1),
        "a quarter are letters": mixed(letters, 0.25),
    }


def main() -> None:
    """Print the table and write RESULTS."""
    classifier = Classifier.from_directory("models")
    reference = drift.Reference.read(Path("models/reference.json"))
    pictures = np.load("data/prepared/test.images.npy")
    labels = np.load("data/prepared/test.labels.npy")
    window, rng = reference.window, np.random.default_rng(1)

    def rows(of: Pixels) -> NDArray[np.float32]:
        return reference.grid.rows(drift.measure(of, classifier.predict(of), classifier.threshold))

    def ratios(from_rows: NDArray[np.float32], count: int) -> NDArray[np.float64]:
        """Statistics of `count` windows drawn with replacement, in units of the thresholds, [count, 8]."""
        parts = []
        for start in range(0, count, 500):
            drawn = rng.integers(0, len(from_rows), (min(500, count - start), window))
            means = np.stack([from_rows[i].mean(0, dtype=np.float64) for i in drawn])
            parts.append(reference.grid.statistics(means, reference.means, window))
        return np.concatenate(parts) / reference.thresholds

    clean = ratios(rows(pictures), CLEAN) > 1
    false = int(clean.any(1).sum())
    print(f"clean windows of {window}: {false} of {CLEAN:,} gave an alarm, {false / CLEAN * 1000:.2f} in 1,000")
    measured = {}
    for name, changed in changes(pictures, labels, classifier.image_size).items():
        found = ratios(rows(changed), TRIALS * MOST).reshape(TRIALS, MOST, -1)
        alarm = np.asarray((found > 1).any(2))
        first_alarm = alarm[:, 0]
        first = np.where(alarm.any(1), alarm.argmax(1) + 1, MOST + 1)
        seen = np.flatnonzero(alarm.any(1))
        worst = found[seen, first[seen] - 1].argmax(1)
        named = drift.NAMES[int(np.bincount(worst, minlength=len(drift.NAMES)).argmax())] if len(seen) else ""
        median, most = (int(np.quantile(first, share, method="higher")) * window for share in (0.5, 0.9))
        measured[name] = {
            "first_window": float(first_alarm.mean()),
            # Null: it was not seen so often.
            "pictures_median": median if median <= MOST * window else None,
            "pictures_90": most if most <= MOST * window else None,
            "named": named,
        }
        print(f"{name}: {first_alarm.mean():.1%} in the first window", flush=True)
    result = {
        "window": window, "most": MOST * window, "clean_windows": CLEAN, "false_alarms": false, "changes": measured,
    }  # fmt: skip
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8", newline="\n")
    print("\n".join(table(result)))


def table(found: dict[str, Any]) -> list[str]:
    """The figures as Markdown, for docs/drift.md."""

    def pictures(count: int | None) -> str:
        return f"over {found['most']:,}" if count is None else f"{count:,}"

    head = (
        f"{found['false_alarms']} of {found['clean_windows']:,} clean windows gave an alarm: "
        f"{1000 * found['false_alarms'] / found['clean_windows']:.2f} in 1,000."
    )
    columns = (
        "what changed", f"seen in the first {found['window']} pictures", "pictures until it is seen, median",
        "in nine of ten cases", "what is named first",
    )  # fmt: skip
    rows = [
        (name, f"{each['first_window']:.1%}", pictures(each["pictures_median"]), pictures(each["pictures_90"]),
         each["named"]) for name, each in found["changes"].items()
    ]  # fmt: skip
    return [head, "", *(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(columns), *rows))]


if __name__ == "__main__":
    main()
