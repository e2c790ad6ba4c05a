"""The worker side: the durable workflow that a registration is, on dbos.

dbos records each finished step in the database: a killed worker resumes at the step that it had
not finished.
"""

from __future__ import annotations

import asyncio
import logging

from dbos import DBOS, DBOSConfig
from sqlalchemy import Engine

from service.domain.errors import RegistrationCancelled
from service.jobs.queue import APPLICATION, APPLICATION_VERSION, QUEUE, WORKFLOW
from service.jobs.serializer import SERIALIZER
from service.jobs.stages import Stages, describe_failure

logger = logging.getLogger(__name__)

# One Trainer works on a registry at a time (it holds the lock), so the slot is always the same
# one, and what a killed Trainer left is recovered by the next.
EXECUTOR = "trainer"
_POLL_SECONDS = 0.1
_REGISTRATIONS_AT_ONCE = 2
_ENDED_WITHOUT_WORD = ("CANCELLED", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def launch(engine: Engine, stages: Stages) -> None:
    """Create dbos's tables, register the workflow, and start to work."""
    config: DBOSConfig = {
        "name": APPLICATION,
        "system_database_engine": engine,
        "application_version": APPLICATION_VERSION,
        "executor_id": EXECUTOR,
        "serializer": SERIALIZER,
        "log_level": "WARNING",
        "use_listen_notify": False,
    }
    DBOS(config=config)
    _define_workflow(stages)
    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=_REGISTRATIONS_AT_ONCE,
        partition_concurrency=1,
        polling_interval_sec=_POLL_SECONDS,
        on_conflict="always_update",
    )


def shut_down() -> None:
    """Stop working; what runs is resumed by the next start."""
    DBOS.destroy()


def ended_without_word(active: list[str]) -> list[str]:
    """Which of the registry's active registrations dbos has given up (timed out, crashed)."""
    if not active:
        return []
    found = DBOS.list_workflows(
        workflow_ids=active,
        status=list(_ENDED_WITHOUT_WORD),
        load_input=False,
        load_output=False,
    )
    return [workflow.workflow_id for workflow in found]


def _define_workflow(stages: Stages) -> None:
    @DBOS.step(name="head")
    async def head(registration: str) -> None:
        await asyncio.to_thread(stages.head, registration)

    @DBOS.step(name="succeed")
    async def succeed(registration: str) -> None:
        await asyncio.to_thread(stages.succeed, registration)

    @DBOS.step(name="fail", retries_allowed=True, max_attempts=20)
    async def fail(registration: str, code: str, title: str, detail: str) -> None:
        await asyncio.to_thread(stages.fail, registration, code, title, detail)

    @DBOS.workflow(name=WORKFLOW)
    async def register(registration: str) -> None:
        try:
            await head(registration)
            await succeed(registration)
        except RegistrationCancelled:
            logger.info("registration cancelled", extra={"registration": registration})
        except Exception as error:
            logger.exception("registration failed", extra={"registration": registration})
            await fail(registration, *describe_failure(error))
