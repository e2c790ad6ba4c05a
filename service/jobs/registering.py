"""Accepting registrations: one transaction writes what a caller sent and queues the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from service.domain.errors import FieldError, InvalidFields, NotReady
from service.domain.types import Example, Method, NewOccupation, Origin, Registration
from service.jobs.queue import RegistrationQueue
from service.registry import erasing, generation, occupations, registrations
from service.registry.database import Database

MIN_IN_EXAMPLES = 4
MAX_EXAMPLES = 2_000

# Set by the Trainer once the job tables exist.
JOBS_READY = "jobs_ready"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key with the route it was used on and the digest of the body it came with."""

    key: str
    route: str
    body_digest: str


class Registrar:
    """Writes registrations to the registry and the queue, together."""

    def __init__(self, database: Database, queue: RegistrationQueue) -> None:
        self._database = database
        self._queue = queue

    def register(
        self,
        new: NewOccupation,
        idempotency: IdempotencyKey | None = None,
        origin: Origin = Origin.API,
        source_digest: str | None = None,
    ) -> Registration:
        """Register an occupation.

        Raises OccupationExists, IdempotencyKeyReused, NotReady or StorageUnavailable.
        """

        def write(connection: Connection) -> None:
            occupations.insert_occupation(
                connection,
                id=new.id,
                name=new.name,
                description=new.description,
                prevalence=new.prevalence,
                method=new.method,
                origin=origin,
                source_digest=source_digest,
            )
            occupations.put_examples(connection, new.id, new.examples, origin)

        return self._accept(new.id, new.method, idempotency, write)

    def replace(self, new: NewOccupation, source_digest: str) -> Registration:
        """Make a bundled occupation what its file says and train a new version."""

        def write(connection: Connection) -> None:
            occupations.update_occupation(
                connection,
                new.id,
                name=new.name,
                description=new.description,
                prevalence=new.prevalence,
                method=new.method.value,
                source_digest=source_digest,
            )
            occupations.replace_bundled_examples(connection, new.id, new.examples)

        return self._accept(new.id, new.method, None, write)

    def add_examples(
        self,
        occupation: str,
        examples: Sequence[Example],
        method: Method | None,
        idempotency: IdempotencyKey | None = None,
    ) -> Registration:
        """Add or correct examples and train a new version.

        Raises OccupationNotFound, InvalidFields (too few ``in`` or too many examples in all),
        IdempotencyKeyReused, NotReady or StorageUnavailable.
        """
        with self._database.read() as connection:
            known = occupations.get_occupation(connection, occupation)

        def write(connection: Connection) -> None:
            occupations.put_examples(connection, occupation, examples)
            counts = occupations.count_examples(connection, occupation)
            _check_counts(counts.examples_in, counts.examples_in + counts.examples_out)
            occupations.update_occupation(connection, occupation)

        return self._accept(occupation, method or known.method, idempotency, write)

    def delete(self, occupation: str) -> None:
        """Delete an occupation and cancel its registrations; raises OccupationNotFound.

        The Trainer, or ``finish_erasures``, then removes what its rows left in the files.
        """
        with self._database.write() as connection:
            occupations.delete_occupation(connection, occupation)
            erasing.ask_for_scrub(connection)
            cancelled = registrations.cancel_occupation(connection, occupation)
        for registration in cancelled:
            self._queue.cancel(registration)

    def cancel(self, registration: str) -> Registration:
        """Cancel a registration; raises RegistrationNotFound or RegistrationFinished."""
        with self._database.write() as connection:
            registrations.cancel(connection, registration)
            cancelled = registrations.get_registration(connection, registration)
        self._queue.cancel(registration)
        return cancelled

    def _accept(
        self,
        occupation: str,
        method: Method,
        idempotency: IdempotencyKey | None,
        write: Callable[[Connection], None],
    ) -> Registration:
        with self._database.write() as connection:
            if generation.get(connection, JOBS_READY) is None:
                raise NotReady("The service is starting for the first time: try again soon.")
            if idempotency is not None:
                earlier = registrations.find_idempotent(
                    connection, idempotency.key, idempotency.route, idempotency.body_digest
                )
                if earlier is not None:
                    return earlier
            write(connection)
            registration = registrations.insert_registration(connection, occupation, method)
            if idempotency is not None:
                registrations.remember_idempotent(
                    connection,
                    idempotency.key,
                    idempotency.route,
                    idempotency.body_digest,
                    registration,
                )
            self._queue.enqueue(connection, registration, occupation)
            return registrations.get_registration(connection, registration)


def _check_counts(examples_in: int, examples: int) -> None:
    if examples_in < MIN_IN_EXAMPLES:
        detail = f"at least {MIN_IN_EXAMPLES} examples must be labelled in, {examples_in} are"
    elif examples > MAX_EXAMPLES:
        detail = f"at most {MAX_EXAMPLES} examples in all, {examples} given"
    else:
        return
    raise InvalidFields("Some fields are invalid: see errors.", (FieldError("/examples", detail),))
