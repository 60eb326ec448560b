"""The gate before a stage: the challenger is held against the champion, criterion by criterion."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deploy.evidence import Evidence, slower
from deploy.gcloud import CloudError

Speed = Callable[[Sequence[Path]], tuple[float, float, float]]
ELSEWHERE = "other test pictures"


class Limits(BaseModel):
    """invoke.yaml's `gate` section. Meanings stand there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    significance: float = Field(gt=0, lt=1)
    accuracy: float = Field(ge=0, le=1)
    calibration: float = Field(ge=0, le=1)
    robustness: float = Field(ge=0, le=1)
    speed: float = Field(ge=1, le=100)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Limits":
        """Check the section, as `context.config.gate` gives it.

        Raises:
            CloudError: one line a wrong or unknown limit.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            said = [f"invoke.yaml: gate.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
            raise CloudError("\n".join(said)) from None


@dataclass(frozen=True)
class Verdict:
    """One criterion.

    Attributes:
        name: which.
        champion: its figure, in words.
        challenger: its figure, in words.
        said: why it passed or not.
        passed: None where there was nothing to compare, which fails nothing.
    """

    name: str
    champion: str
    challenger: str
    said: str
    passed: bool | None

    @property
    def line(self) -> str:
        """For an error or a tag's message."""
        return f"{self.name} {self.champion} -> {self.challenger} ({self.said})"


def judge(champion: Evidence | None, challenger: Evidence, limits: Limits, speed: Speed = slower) -> list[Verdict]:
    """Hold the challenger against the champion; with no champion only its figures are told.

    Args:
        champion: who holds the stage.
        challenger: who wants it.
        limits: from when on it fails.
        speed: measures two model files: the seconds of each, and their ratio.
    """
    if champion is None:
        return [
            Verdict("accuracy", "-", f"{challenger.accuracy:.2%}", "the first", None),
            Verdict("calibration error", "-", f"{challenger.ece:.2%}", "the first", None),
            Verdict("robustness", "-", _share(challenger.robustness), "the first", None),
        ]
    same = champion.test == challenger.test or champion.prepared == challenger.prepared
    same = same and champion.actual == challenger.actual  # the order, too, and the classes' names
    return [
        accuracy(champion, challenger, limits, same),
        _calibration(champion, challenger, limits, same),
        _robustness(champion, challenger, limits, same),
        _speed(champion, challenger, limits, speed),
    ]


def accuracy(champion: Evidence, challenger: Evidence, limits: Limits, same: bool) -> Verdict:
    """Fails if it is right less often by more than chance explains, or by more than the margin.

    The test looks at the pictures that one of them got right and the other wrong. It finds small losses on a large test
    split; on a small one it finds nothing, and there the margin stands.
    """
    figures = ("accuracy", f"{champion.accuracy:.2%}", f"{challenger.accuracy:.2%}")
    if not same:
        return Verdict(*figures, ELSEWHERE, False)
    lost, won, p = mcnemar(champion.right, challenger.right)
    counts = f"{won} won, {lost} lost, p = {p:.2g}"
    if lost > won and p < limits.significance:
        return Verdict(*figures, f"worse by more than chance: {counts}", False)
    if champion.accuracy - challenger.accuracy > limits.accuracy:
        return Verdict(*figures, f"worse by more than {limits.accuracy:.1%}: {counts}", False)
    if p < limits.significance:
        return Verdict(*figures, f"better: {counts}", True)
    return Verdict(*figures, f"no worse than chance explains: {counts}", True)


def mcnemar(champion: Sequence[bool], challenger: Sequence[bool]) -> tuple[int, int, float]:
    """McNemar's exact test, two-sided, of two models on the same pictures.

    Source: McNemar, "Note on the sampling error of the difference between correlated proportions or percentages",
    Psychometrika 12 (1947). If both were equally good, a picture that only one of them got right would be either's with
    probability 1/2; so their number is binomial, and no approximation is needed. Dietterich, "Approximate statistical
    tests for comparing supervised classification learning algorithms" (1998), names it for models trained once.

    Args:
        champion: of each picture, whether it was right.
        challenger: the same.

    Returns:
        How many pictures only the champion got right, how many only the challenger, and p.

    Raises:
        CloudError: scipy is missing.
    """
    try:
        from scipy.stats import binomtest  # takes half a second
    except ImportError:
        raise CloudError("the package scipy is missing, which tests the difference: type `uv sync`") from None
    lost = sum(a and not b for a, b in zip(champion, challenger, strict=True))
    won = sum(b and not a for a, b in zip(champion, challenger, strict=True))
    return lost, won, float(binomtest(lost, lost + won, 0.5).pvalue) if lost + won else 1.0


def _calibration(champion: Evidence, challenger: Evidence, limits: Limits, same: bool) -> Verdict:
    figures = ("calibration error", f"{champion.ece:.2%}", f"{challenger.ece:.2%}")
    if not same:
        return Verdict(*figures, ELSEWHERE, None)
    passed = challenger.ece - champion.ece <= limits.calibration
    margin = f"{limits.calibration:.1%}"
    return Verdict(*figures, f"within {margin}" if passed else f"worse by more than {margin}", passed)


def _robustness(champion: Evidence, challenger: Evidence, limits: Limits, same: bool) -> Verdict:
    figures = ("robustness", _share(champion.robustness), _share(challenger.robustness))
    if champion.robustness is None or challenger.robustness is None:
        return Verdict(*figures, "not measured of both", None)
    if not same:
        return Verdict(*figures, ELSEWHERE, None)
    passed = champion.robustness - challenger.robustness <= limits.robustness
    margin = f"{limits.robustness:.1%}"
    return Verdict(*figures, f"within {margin}" if passed else f"worse by more than {margin}", passed)


def _speed(champion: Evidence, challenger: Evidence, limits: Limits, speed: Speed) -> Verdict:
    try:
        old, new, ratio = speed([champion.model, challenger.model])
    except CloudError as error:
        return Verdict("speed", "?", "?", str(error), False)
    said = f"{ratio:.2f} times as long, {limits.speed:g} is allowed"
    return Verdict("speed", f"{1000 * old:.2f} ms", f"{1000 * new:.2f} ms", said, ratio <= limits.speed)


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"
