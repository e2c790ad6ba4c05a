from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from service.api.aside import Aside
from service.domain.errors import Overloaded

DEADLINE_SECONDS = 10.0


@pytest.fixture
def aside() -> Iterator[Aside]:
    made = Aside(2)
    yield made
    made.close()


def test_what_the_work_returns_or_raises_reaches_who_waits(aside: Aside) -> None:
    def failing(_: threading.Event) -> None:
        raise Overloaded("as the work says")

    assert asyncio.run(aside.run(lambda _: "done")) == "done"
    with pytest.raises(Overloaded, match="as the work says"):
        asyncio.run(aside.run(failing))


def test_the_event_loop_goes_on_while_work_runs(aside: Aside) -> None:
    told = threading.Event()

    async def both() -> bool:
        work = asyncio.create_task(aside.run(lambda _: told.wait(DEADLINE_SECONDS)))
        await asyncio.sleep(0)
        told.set()
        return await work

    assert asyncio.run(both())


def test_one_more_than_are_taken_at_once_is_refused_until_one_has_ended(aside: Aside) -> None:
    told = threading.Event()

    async def crowd() -> None:
        running = [
            asyncio.create_task(aside.run(lambda _: told.wait(DEADLINE_SECONDS))) for _ in range(2)
        ]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await aside.run(lambda _: True)
        told.set()
        assert await asyncio.gather(*running) == [True, True]
        assert await aside.run(lambda _: "one more")

    asyncio.run(crowd())


def test_work_that_fails_leaves_its_place_to_others(aside: Aside) -> None:
    def failing(_: threading.Event) -> None:
        raise ArithmeticError

    for _ in range(5):
        with pytest.raises(ArithmeticError):
            asyncio.run(aside.run(failing))
    assert asyncio.run(aside.run(lambda _: "done")) == "done"


def test_work_is_told_when_nobody_waits_any_more(aside: Aside) -> None:
    started, ended = threading.Event(), threading.Event()

    def work(given_up: threading.Event) -> None:
        started.set()
        if given_up.wait(DEADLINE_SECONDS):
            ended.set()

    async def impatient() -> None:
        task = asyncio.create_task(aside.run(work))
        assert await asyncio.to_thread(started.wait, DEADLINE_SECONDS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(impatient())
    assert ended.wait(DEADLINE_SECONDS)


def test_closing_gives_up_what_runs_and_waits_until_it_has_ended(aside: Aside) -> None:
    started, ended = threading.Event(), threading.Event()

    def work(given_up: threading.Event) -> None:
        started.set()
        if given_up.wait(DEADLINE_SECONDS):
            ended.set()

    async def closed_meanwhile() -> bool:
        task = asyncio.create_task(aside.run(work))
        assert await asyncio.to_thread(started.wait, DEADLINE_SECONDS)
        await asyncio.to_thread(aside.close)
        await task
        return ended.is_set()

    assert asyncio.run(closed_meanwhile())
