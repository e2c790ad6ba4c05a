"""The enqueue side: registrations become durable workflows, by name, in the caller's transaction.

The workflow's row is written to the registry's own database in the transaction that writes the
registration, so neither can exist without the other.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine

if TYPE_CHECKING:
    from dbos import DBOSClient, EnqueueOptions

QUEUE = "registrations"
WORKFLOW = "register"
FINE_TUNING_QUEUE = "fine-tuning"
FINE_TUNING_WORKFLOW = "fine_tune"
APPLICATION = "vocation"
# Constant, so that a worker of the next release finishes what this one accepted.
APPLICATION_VERSION = "1"


class RegistrationQueue:
    """Enqueues and cancels registrations."""

    def __init__(self, engine: Engine, timeout_seconds: int) -> None:
        self._engine = engine
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._opened: DBOSClient | None = None

    def _client(self) -> DBOSClient:
        # Imported at the first registration: a quarter of a second that no start has to wait.
        from dbos import DBOSClient

        from service.jobs.serializer import SERIALIZER

        with self._lock:
            if self._opened is None:
                self._opened = DBOSClient(
                    system_database_engine=self._engine,
                    serializer=SERIALIZER,
                    application_name=APPLICATION,
                    lazy=True,
                )
            return self._opened

    def enqueue(self, connection: Connection, registration: str, occupation: str) -> None:
        """Queue a registration; those of one occupation run one after the other."""
        options: EnqueueOptions = {
            "workflow_name": WORKFLOW,
            "queue_name": QUEUE,
            "workflow_id": registration,
            "app_version": APPLICATION_VERSION,
            "workflow_timeout": float(self._timeout_seconds),
            "queue_partition_key": occupation,
        }
        self._client().enqueue_in_transaction(connection, options, registration)

    def cancel(self, registration: str) -> None:
        """Stop the workflows of a registration that the registry has marked as cancelled."""
        self._client().cancel_workflow(registration, cancel_children=True)

    def close(self) -> None:
        """Close the client's connections."""
        if self._opened is not None:
            self._opened.destroy()
