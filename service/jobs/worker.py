"""The worker side: the durable workflows that a registration is, on dbos.

dbos records each finished step in the database: a killed worker resumes at the step that it had
not finished. A registration is two workflows, so that no ``head`` version, due within seconds,
waits for somebody else's fine-tuning.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from dbos import DBOS, DBOSConfig, EnqueueOptions
from sqlalchemy import Engine

from service.domain.errors import RegistrationCancelled
from service.jobs.fine_tuning import FineTuning
from service.jobs.queue import (
    APPLICATION,
    APPLICATION_VERSION,
    FINE_TUNING_QUEUE,
    FINE_TUNING_WORKFLOW,
    QUEUE,
    WORKFLOW,
)
from service.jobs.serializer import SERIALIZER
from service.jobs.stages import Stages, describe_failure
from service.telemetry.spans import registration_spans

logger = logging.getLogger(__name__)

# One Trainer works on a registry at a time (it holds the lock), so the slot is always the same
# one, and what a killed Trainer left is recovered by the next.
EXECUTOR = "trainer"
# Each look costs milliseconds of a processor that serving wants too: heads are awaited, and a
# tuning takes half a minute.
_HEAD_POLL_SECONDS, _TUNING_POLL_SECONDS = 0.2, 0.5
_HEADS_AT_ONCE = 2
# One tuning already runs on every CPU.
_TUNINGS_AT_ONCE = 1
# dbos runs the lowest number first: nobody's registration waits for the bundled occupations.
_PRIORITY, _BUNDLED_PRIORITY = 1, 10
_ENDING_RETRY_SECONDS = 5.0
# An hour: longer than a registration may run, which ends it in another way.
_ENDING_ATTEMPTS = 720
_ENDED_WITHOUT_WORD = ("CANCELLED", "ERROR", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def launch(engine: Engine, stages: Stages, tuning: FineTuning, timeout_seconds: int) -> None:
    """Create dbos's tables, register the workflows, and start to work.

    May be called again when it has raised.
    """
    try:
        _launch(engine, stages, tuning, timeout_seconds)
    except Exception:
        # Else the next call would find dbos launched, and its tables never made.
        DBOS.destroy(destroy_registry=True)
        raise


def _launch(engine: Engine, stages: Stages, tuning: FineTuning, timeout_seconds: int) -> None:
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
    endings = _define_endings(stages)
    _define_fine_tuning(tuning, endings)
    _define_registration(stages, tuning, endings, timeout_seconds)
    DBOS.launch()
    DBOS.register_queue(
        QUEUE,
        worker_concurrency=_HEADS_AT_ONCE,
        partition_concurrency=1,
        polling_interval_sec=_HEAD_POLL_SECONDS,
        on_conflict="always_update",
    )
    DBOS.register_queue(
        FINE_TUNING_QUEUE,
        worker_concurrency=_TUNINGS_AT_ONCE,
        polling_interval_sec=_TUNING_POLL_SECONDS,
        on_conflict="always_update",
    )


def shut_down() -> None:
    """Stop working; what runs is resumed by the next start."""
    DBOS.destroy()


def ended_without_word(active: list[str]) -> list[str]:
    """Which of the registry's active registrations dbos has given up (timed out, crashed)."""
    if not active:
        return []
    owner = {workflow: id for id in active for workflow in (id, _fine_tuning_id(id))}
    found = DBOS.list_workflows(
        workflow_ids=list(owner),
        status=list(_ENDED_WITHOUT_WORD),
        load_input=False,
        load_output=False,
    )
    return sorted({owner[workflow.workflow_id] for workflow in found})


def _fine_tuning_id(registration: str) -> str:
    return f"{registration}-setfit"


@dataclass(frozen=True, slots=True)
class _Endings:
    """The durable steps that end a registration, whichever workflow it is in."""

    succeed: Callable[[str], Awaitable[None]]
    fail: Callable[[str, str, str, str], Awaitable[None]]


def _define_endings(stages: Stages) -> _Endings:
    # Tried again until it is written: where the disk was full, the end must not be lost too.
    lasting = partial(
        DBOS.step,
        retries_allowed=True,
        interval_seconds=_ENDING_RETRY_SECONDS,
        backoff_rate=1.0,
        max_attempts=_ENDING_ATTEMPTS,
    )

    @lasting(name="succeed")
    @registration_spans("succeed")
    async def succeed(registration: str) -> None:
        await asyncio.to_thread(stages.succeed, registration)

    @lasting(name="fail")
    async def fail(registration: str, code: str, title: str, detail: str) -> None:
        await asyncio.to_thread(stages.fail, registration, code, title, detail)

    return _Endings(succeed, fail)


def _define_registration(
    stages: Stages, tuning: FineTuning, endings: _Endings, timeout_seconds: int
) -> None:
    @DBOS.step(name="head")
    @registration_spans("head")
    async def head(registration: str) -> None:
        await asyncio.to_thread(stages.head, registration)

    @DBOS.step(name="goes_on")
    async def goes_on(registration: str) -> bool:
        return await asyncio.to_thread(tuning.wanted, registration)

    @DBOS.step(name="is_bundled")
    async def is_bundled(registration: str) -> bool:
        return await asyncio.to_thread(stages.is_bundled, registration)

    @DBOS.workflow(name=WORKFLOW)
    @registration_spans("registration")
    async def register(registration: str) -> None:
        try:
            await head(registration)
            if not await goes_on(registration):
                await endings.succeed(registration)
                return
            options: EnqueueOptions = {
                "workflow_name": FINE_TUNING_WORKFLOW,
                "queue_name": FINE_TUNING_QUEUE,
                "workflow_id": _fine_tuning_id(registration),
                "app_version": APPLICATION_VERSION,
                "workflow_timeout": float(timeout_seconds),
                "priority": _BUNDLED_PRIORITY if await is_bundled(registration) else _PRIORITY,
            }
            await DBOS.enqueue_workflow_with_options_async(options, registration)
        except RegistrationCancelled:
            logger.info("registration cancelled", extra={"registration": registration})
        except Exception as error:
            logger.exception("registration failed", extra={"registration": registration})
            await endings.fail(registration, *describe_failure(error))


def _define_fine_tuning(tuning: FineTuning, endings: _Endings) -> None:
    # Preemptible: cancelled or out of time, the coroutine ends and takes its child with it.
    @DBOS.step(name="tune", preemptible=True)
    @registration_spans("tune")
    async def tune(registration: str) -> None:
        await tuning.tune(registration)

    @DBOS.step(name="publish")
    @registration_spans("publish")
    async def publish(registration: str) -> None:
        await asyncio.to_thread(tuning.publish, registration)

    @DBOS.workflow(name=FINE_TUNING_WORKFLOW)
    @registration_spans("fine-tuning")
    async def fine_tune(registration: str) -> None:
        try:
            await tune(registration)
            await publish(registration)
            await endings.succeed(registration)
        except RegistrationCancelled:
            logger.info("registration cancelled", extra={"registration": registration})
        except Exception as error:
            logger.exception("fine-tuning failed", extra={"registration": registration})
            await endings.fail(registration, *describe_failure(error))
