"""A Trainer that starts on a full disk works once there is room, without being started again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# In a process of its own: the limit is on every file that the process writes, and dbos is one for
# the whole process.
_SCRIPT = """
import resource, sys, time
from pathlib import Path
from dbos import DBOS
from sqlalchemy.exc import OperationalError
from service.inference.encoder import SideBySide
from service.inference.model_cache import ModelCache
from service.jobs import worker
from service.jobs.fine_tuning import FineTuning
from service.jobs.queue import RegistrationQueue
from service.jobs.stages import Stages
from service.registry.artifacts import ArtifactStore
from service.registry.database import Database
from service.settings import Settings

home = Path(sys.argv[1])
database = Database(f"sqlite:///{home / 'registry.sqlite'}")
database.create_schema()
artifacts = ArtifactStore(str(home / "artifacts"), home / "cache")
cache = ModelCache(database, artifacts, SideBySide(1), version_entries=1, encoder_bytes=0)
stages = Stages(database, artifacts, cache)
tuning = FineTuning(Settings(home=home), database, artifacts)
resource.setrlimit(resource.RLIMIT_FSIZE, (512, resource.RLIM_INFINITY))
for _ in range(2):
    try:
        worker.launch(database.engine, stages, tuning, 60)
    except OperationalError as error:
        print("refused:", error.orig)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
worker.launch(database.engine, stages, tuning, 60)
with database.write() as connection:
    RegistrationQueue(database.engine, 60).enqueue(connection, "unknown", "sommelier")
# A registration that is not there counts as cancelled: its workflow ends well.
while DBOS.get_workflow_status("unknown").status != "SUCCESS":
    time.sleep(0.05)
print("worked")
worker.shut_down()
"""


def test_a_worker_that_could_not_write_its_tables_starts_at_the_next_attempt(
    tmp_path: Path,
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = ended.stdout.splitlines()
    assert ended.returncode == 0, ended.stderr
    assert said == ["refused: disk I/O error", "refused: disk I/O error", "worked"]
