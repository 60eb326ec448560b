"""`precision: reproducible`: the same bits on every x86-64 processor with AVX2, however many cores it has.

Which instructions a library picks for a processor, and among how many threads it parts the work, decide in what order
it adds. Both are read from the environment when a library loads, so a stage starts itself anew with them set.
Sources: oneDNN "CPU dispatcher control", MKL "Conditional Numerical Reproducibility", NumPy "CPU build options".
"""

import os
import subprocess
import sys
from typing import NoReturn

import torch
from numpy._core._multiarray_umath import (  # type: ignore[import-not-found]
    __cpu_dispatch__ as numpy_knows,
)

from stages import params
from stages.stage import StageError, log

THREADS = 2  # as many on one core as on a hundred
PINS = {
    "CUDA_VISIBLE_DEVICES": "-1",  # none: `devices: auto` would count them
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",  # MKL promises no other for processors that are not Intel's
    "MKL_DYNAMIC": "FALSE",
    "OMP_DYNAMIC": "FALSE",
    "OMP_NUM_THREADS": str(THREADS),
    "MKL_NUM_THREADS": str(THREADS),
    "OPENBLAS_CORETYPE": "Haswell",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": " ".join(name for name in numpy_knows if name not in ("AVX2", "FMA3", "X86_V3")),
}


def apply() -> None:
    """Start this stage anew in the pinned environment, if params.yaml wants the same bits and it is not pinned yet.

    Raises:
        StageError: this processor has no AVX2.
    """
    if params.load().precision != "reproducible" or PINS.items() <= os.environ.items():
        return
    if not torch.cpu.get_capabilities().get("avx2"):
        raise StageError(
            "precision: reproducible wants an x86-64 processor with AVX2; fp32 runs here, to bits of its own"
        )
    log(f"starting anew with AVX2 and {THREADS} threads, for the same bits everywhere")
    _restart({**os.environ, **PINS})


def _restart(environment: dict[str, str]) -> NoReturn:
    if sys.platform == "win32":  # where exec leaves the caller behind
        sys.exit(subprocess.run(sys.orig_argv, env=environment, check=False).returncode)  # noqa: S603 (this very command)
    os.execve(sys.executable, sys.orig_argv, environment)  # noqa: S606
