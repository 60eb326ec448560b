"""What dvclive keeps of a training: curves by epoch, and its speed."""

import shutil
from pathlib import Path
from typing import Any

from stages.stage import StageError


def record_curves(folder: Path, history: list[dict[str, float]]) -> None:
    """Write the curves of all epochs so far: the same files whether or not the run was interrupted."""
    shutil.rmtree(folder, ignore_errors=True)
    with live(folder) as log_to:
        for entry in history:
            for name, value in entry.items():
                log_to.log_metric(name, value)
            log_to.next_step()


def record_speed(folder: Path, epoch: int, rate: float) -> None:
    """Append the pictures per second of an epoch."""
    if epoch == 0:
        shutil.rmtree(folder, ignore_errors=True)
    with live(folder, resume=epoch > 0) as log_to:
        log_to.step = epoch
        log_to.log_metric("pictures_per_second", rate)


def live(folder: Path, resume: bool = False) -> Any:
    """A dvclive logger that leaves dvc.yaml and experiments to DVC. It needs no git repository."""
    from dvclive.live import Live  # here, since it imports much of DVC
    from scmrepo.exceptions import SCMError

    try:
        return Live(str(folder), resume=resume, report=None, save_dvc_exp=False, dvcyaml=None, monitor_system=False)
    except SCMError as error:  # it reads the commit, and a repository may have none yet
        raise StageError(f"dvclive cannot read the git repository ({error}): commit once, then run again") from None
