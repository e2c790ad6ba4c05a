"""Fine-tuning as a child process: ``python -m service.training.setfit_child JOB_DIR``.

Reads ``JOB_DIR/job.json`` (`service.training.job_file.Job`) and writes ``JOB_DIR/out``, which is
there only when all of it is. Prints lines ``stage fraction`` with the stages train, export,
calibrate and gate. Exit status 0: ``out`` is complete; those of `service.training.child`: the last
line of standard error is for the user; anything else: a fault. Standard input must be a pipe that
the parent holds open: at its end the child ends at once, so that a killed parent leaves nothing
running. Everything it writes is in JOB_DIR, temporary files too, so that a killed child leaves
nothing elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

from service.domain.errors import EncoderUnusable, VocationError
from service.training.child import NO_ROOM, REFUSED, UNUSABLE, end_with_parent, no_room

_NICENESS = 10

# Read by OpenMP and the Hugging Face libraries when they load. Threads that spin while they wait
# cost four times the processor time when another process wants the cores (it does: serving).
_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(arguments: list[str]) -> int:
    """Run one job; returns the exit status."""
    (folder,) = (Path(argument).resolve() for argument in arguments)
    end_with_parent()
    _give_way()
    warnings.filterwarnings("ignore")
    try:
        _run(folder)
    except VocationError as error:
        sys.stderr.write(f"{error.detail}\n")
        return UNUSABLE if isinstance(error, EncoderUnusable) else REFUSED
    except Exception as error:
        said = no_room(error)
        if said is None:
            raise
        sys.stderr.write(f"{said}\n")
        return NO_ROOM
    return 0


def _give_way() -> None:
    """Leave the processors to serving where it wants them.

    This process leads a session, and Linux shares processors out by sessions first (sched(7), "The
    autogroup feature"): within its own, nobody is there for a niceness to count against.
    """
    os.nice(_NICENESS)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_NICENESS))


def _run(folder: Path) -> None:
    making, out, scratch = folder / "out.part", folder / "out", folder / "scratch"
    for left in (making, out, scratch):
        shutil.rmtree(left, ignore_errors=True)
    scratch.mkdir()
    making.mkdir()
    os.environ.update(_ENVIRONMENT, TMPDIR=str(scratch))
    # After the environment is set, which they read: and they take seconds.
    from service.training.job_file import read_job  # noqa: PLC0415
    from service.training.setfit_job import run_job  # noqa: PLC0415

    logging.disable(logging.WARNING)

    def report(stage: str, fraction: float) -> None:
        sys.stdout.write(f"{stage} {fraction:.3f}\n")
        sys.stdout.flush()

    run_job(read_job(folder / "job.json"), making, report)
    making.rename(out)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    # All is written: taking torch down in order would only take another second.
    os._exit(status)
