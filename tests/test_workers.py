"""The ends of workers; how whole processes end is in test_server."""

import asyncio
import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.server import configure, listen
from service.workers import WorkerProcess, WorkerServer, stop_when_readable
from tests.support.processes import TIMEOUT


async def hello(_: Request) -> Response:
    return Response("hello")


@pytest.fixture
def collector_as_it_was() -> Iterator[None]:
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.mark.usefixtures("logging_as_it_was", "collector_as_it_was")
async def test_the_garbage_collector_passes_over_what_the_start_has_made() -> None:
    made: list[object] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        made.append([made])
        yield

    config = configure(Starlette(lifespan=lifespan), log_level="critical")
    server = WorkerServer(config)
    with listen("127.0.0.1", 0) as listener:
        config.load()
        server.lifespan = config.lifespan_class(config)
        gc.unfreeze()
        await server.startup([listener])
        assert gc.get_freeze_count() > 0
        assert not any(one is made[0] for one in gc.get_objects())
        await server.shutdown([listener])


@pytest.mark.usefixtures("logging_as_it_was", "collector_as_it_was")
async def test_who_waits_to_be_accepted_at_the_end_is_answered() -> None:
    """The kernel has made the connection and has the request; nobody has looked at either."""
    config = configure(Starlette(routes=[Route("/", hello)]), log_level="critical")
    server = WorkerServer(config)
    with listen("127.0.0.1", 0) as listener, socket.socket() as client:
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup([listener])
        address = listener.getsockname()
        client.connect(address)
        client.sendall(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
        async with asyncio.timeout(TIMEOUT):
            await server.shutdown([listener])
            client.settimeout(0)
            answer = await asyncio.get_running_loop().sock_recv(client, 4096)
        with socket.socket() as late:
            assert late.connect_ex(address) != 0
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer
    assert answer.endswith(b"hello")


@pytest.mark.usefixtures("logging_as_it_was")
async def test_at_the_end_the_app_is_told_while_its_requests_are_still_answered() -> None:
    """What would take longer than the server waits can then come to an end and say how far it got."""
    told = asyncio.Event()

    async def wait(_: Request) -> Response:
        await told.wait()
        return Response("as far as it got")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, object]]:
        yield {"stop": told.set}

    server = WorkerServer(configure(Starlette(routes=[Route("/", wait)], lifespan=lifespan), log_level="critical"))
    with listen("127.0.0.1", 0) as listener, socket.socket() as client:
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup([listener])
        client.connect(listener.getsockname())
        client.sendall(b"GET / HTTP/1.1\r\nHost: service\r\n\r\n")
        async with asyncio.timeout(TIMEOUT):
            await server.shutdown([listener])
            client.settimeout(0)
            answer = await asyncio.get_running_loop().sock_recv(client, 4096)
    assert answer.endswith(b"as far as it got")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[WorkerProcess]:
    """One that is not started; its end of the pipe is ``child_conn``."""
    monkeypatch.setattr(WorkerProcess, "is_ending", False)
    worker = WorkerProcess(configure(Starlette(), log_level="critical", workers=2), [])
    yield worker
    worker.parent_conn.close()
    worker.child_conn.close()


def test_a_worker_ends_as_our_server_does(worker: WorkerProcess) -> None:
    assert isinstance(worker.server, WorkerServer)
    assert worker.server is worker.server


def test_a_worker_that_answers_is_well(worker: WorkerProcess) -> None:
    worker.child_conn.send(True)  # noqa: FBT003 - uvicorn's own
    assert worker.ping(timeout=TIMEOUT)
    assert worker.child_conn.recv() == b"ping"


def test_a_worker_that_does_not_answer_is_not(worker: WorkerProcess) -> None:
    assert not worker.ping(timeout=0)


def test_a_worker_that_has_gone_is_not(worker: WorkerProcess) -> None:
    worker.child_conn.close()
    assert not worker.ping(timeout=TIMEOUT)


def test_nobody_waits_for_a_worker_s_answer_once_the_end_has_begun(worker: WorkerProcess) -> None:
    WorkerProcess.is_ending = True
    assert worker.ping(timeout=TIMEOUT)


def test_nobody_waits_for_a_worker_s_end_once_the_end_of_all_has_begun(worker: WorkerProcess) -> None:
    worker.process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(TIMEOUT,))
    worker.process.start()
    ending = threading.Timer(0.2, setattr, (WorkerProcess, "is_ending", True))
    ending.start()
    worker.join()
    assert worker.process.is_alive()
    worker.process.kill()
    worker.process.join()
    ending.join()


async def test_a_process_ends_when_the_descriptor_of_its_parent_becomes_readable() -> None:
    """And says so once, although the descriptor stays readable."""
    signals: asyncio.Queue[int] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, signals.put_nowait, signal.SIGTERM)
    sentinel, parent = os.pipe()
    try:
        stop_when_readable(sentinel)
        os.close(parent)
        assert await signals.get() == signal.SIGTERM
        await asyncio.sleep(0)
        assert not loop.remove_reader(sentinel)
        assert signals.empty()
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        os.close(sentinel)
