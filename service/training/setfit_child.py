"""Fine-tuning as a child process: ``python -m service.training.setfit_child JOB_DIR``.

Reads ``JOB_DIR/job.json`` (`service.training.job_file.Job`) and writes ``JOB_DIR/out``, which is
there only when all of it is. Prints lines ``stage fraction`` with the stages train, export,
calibrate and gate. Exit status 0: ``out`` is complete; 2: the last line of standard error is for
the user; anything else: a fault. Standard input must be a pipe that the parent holds open: at its
end the child ends at once, so that a killed parent leaves nothing running.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from pathlib import Path

from service.domain.errors import VocationError
from service.training.child import end_with_parent

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
    """Run one job."""
    (folder,) = (Path(argument) for argument in arguments)
    end_with_parent()
    os.environ.update(_ENVIRONMENT)
    os.nice(_NICENESS)
    warnings.filterwarnings("ignore")
    # After the watch has begun: these take seconds.
    from service.training.job_file import read_job  # noqa: PLC0415
    from service.training.setfit_job import run_job  # noqa: PLC0415

    logging.disable(logging.WARNING)

    def report(stage: str, fraction: float) -> None:
        sys.stdout.write(f"{stage} {fraction:.3f}\n")
        sys.stdout.flush()

    making, out = folder / "out.part", folder / "out"
    for left in (making, out):
        shutil.rmtree(left, ignore_errors=True)
    try:
        making.mkdir()
        run_job(read_job(folder / "job.json"), making, report)
        making.rename(out)
    except VocationError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
