"""`-S key=value`: checked where it is typed, and written to params.yaml as `dvc exp run -S` writes it."""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.gcloud import CloudError


def apply(settings: Sequence[str], file: Path = Path("params.yaml")) -> None:
    """Change params.yaml, comments and order kept; wholly or not at all.

    Raises:
        CloudError: there is no params.yaml, a key that is no param, a value that is not allowed, or two values; in a
            line each.
    """
    if settings:
        with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
            _overridden(file, Path(scratch), settings).replace(file)


def check(settings: Sequence[str], file: Path = Path("params.yaml")) -> None:
    """The same, but params.yaml stays as it is.

    Raises:
        CloudError: as `apply` does.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _overridden(file, Path(scratch), settings)


def _overridden(file: Path, scratch: Path, settings: Sequence[str]) -> Path:
    """A copy of params.yaml with the settings in it."""
    try:
        shutil.copy(file, changed := scratch / file.name)
    except OSError:
        raise CloudError(f"{file} is missing: run from the folder that holds dvc.yaml") from None
    _override(changed, settings)
    return changed


def _override(file: Path, settings: Sequence[str]) -> None:
    # Both are slow to import, and the cloud's other tasks need neither.
    from dvc.exceptions import DvcException
    from dvc.utils.hydra import apply_overrides, to_hydra_overrides
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from stages import params
    from stages.stage import StageError

    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in params.Params.model_fields:
            raise CloudError(
                f"-S {setting}: {key!r} is no param; the params are {', '.join(params.Params.model_fields)}"
            )
        if not equals or not value:
            raise CloudError(f"-S {setting}: give a value, as in -S lr=1e-3")
    try:
        if several := [s for s in to_hydra_overrides(list(settings)) if s.is_sweep_override()]:
            key = several[0].key_or_group
            raise CloudError(f"-S {key}: one value a run; `uv run invoke sweep --cloud --grid` takes several")
        apply_overrides(file, list(settings))
        params.load(file)
    except StageError as error:
        raise CloudError("\n".join(f"-S: {line.partition(': ')[2]}" for line in str(error).splitlines())) from None
    except (DvcException, HydraException, OmegaConfBaseException) as error:
        raise CloudError(f"-S {' '.join(settings)}: cannot be read: {' '.join(str(error).split())[:200]}") from None
