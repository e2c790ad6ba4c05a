"""The enqueue side: registrations become durable workflows, by name, in the caller's transaction.

The workflow's row is written to the registry's own database in the transaction that writes the
registration, so neither can exist without the other.
"""

from __future__ import annotations

from dbos import DBOSClient, EnqueueOptions
from sqlalchemy import Connection, Engine

from service.jobs.serializer import SERIALIZER

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
        self._timeout_seconds = timeout_seconds
        self._client = DBOSClient(
            system_database_engine=engine,
            serializer=SERIALIZER,
            application_name=APPLICATION,
            lazy=True,
        )

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
        self._client.enqueue_in_transaction(connection, options, registration)

    def cancel(self, registration: str) -> None:
        """Stop the workflows of a registration that the registry has marked as cancelled."""
        self._client.cancel_workflow(registration, cancel_children=True)

    def close(self) -> None:
        """Close the client's connections."""
        self._client.destroy()
