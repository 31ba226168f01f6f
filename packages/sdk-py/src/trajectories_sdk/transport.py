"""Drivers that execute the steps of a flow, blocking or awaited. All other logic is in the flows."""

from __future__ import annotations

import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from contextlib import aclosing, closing
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
import httpx2

from trajectories_sdk.errors import APIConnectionError, APITimeoutError
from trajectories_sdk.flow import (
    NO_MORE,
    Block,
    Close,
    Emit,
    Flow,
    Open,
    Read,
    Request,
    Response,
    Send,
    Sleep,
    Step,
    Take,
)

T = TypeVar("T")
_EMITS_OUTSIDE_ITERATE: Final = "a flow that emits must be iterated, not run"


class Driver:
    """Runs flows with blocking calls. Thread-safe: the state of a run belongs to that run."""

    def __init__(self, http: Callable[[], httpx2.Client], sleep: Callable[[float], None] = time.sleep) -> None:
        self.http = http
        self.sleep = sleep

    def run(self, flow: Flow[T], items: Iterable[Any] = ()) -> T:
        """Run a flow and return its result."""
        with closing(flow), closing(_Exchange(self.http(), self.sleep, items)) as exchange:
            reply: Any = None
            while True:
                try:
                    step = flow.send(reply)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                reply = exchange.reply(step)

    def iterate(self, flow: Flow[None]) -> Generator[Any]:
        """Run a flow and yield what it emits."""
        with closing(flow), closing(_Exchange(self.http(), self.sleep, ())) as exchange:
            reply: Any = None
            while True:
                try:
                    step = flow.send(reply)
                except StopIteration:
                    return
                if isinstance(step, Emit):
                    yield step.value
                    reply = None
                else:
                    reply = exchange.reply(step)


class AsyncDriver:
    """Runs flows with awaits, under asyncio and trio."""

    def __init__(
        self, http: Callable[[], Awaitable[httpx2.AsyncClient]], sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    ) -> None:
        self.http = http
        self.sleep = sleep

    async def run(self, flow: Flow[T], items: Iterable[Any] | AsyncIterable[Any] = ()) -> T:
        """Run a flow and return its result."""
        with closing(flow):
            async with aclosing(_AsyncExchange(await self.http(), self.sleep, items)) as exchange:
                reply: Any = None
                while True:
                    try:
                        step = flow.send(reply)
                    except StopIteration as done:
                        return done.value  # type: ignore[no-any-return]
                    reply = await exchange.reply(step)

    async def iterate(self, flow: Flow[None]) -> AsyncGenerator[Any]:
        """Run a flow and yield what it emits."""
        with closing(flow):
            async with aclosing(_AsyncExchange(await self.http(), self.sleep, ())) as exchange:
                reply: Any = None
                while True:
                    try:
                        step = flow.send(reply)
                    except StopIteration:
                        return
                    if isinstance(step, Emit):
                        yield step.value
                        reply = None
                    else:
                        reply = await exchange.reply(step)


class _Exchange:
    """HTTP state of one run: at most one open response."""

    def __init__(self, http: httpx2.Client, sleep: Callable[[float], None], items: Iterable[Any]) -> None:
        self._http = http
        self._sleep = sleep
        self._items = iter(items)
        self._response: httpx2.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def reply(self, step: Step) -> Any:
        match step:
            case Send(request):
                return self._open(request, is_streamed=False)
            case Open(request):
                return self._open(request, is_streamed=True)
            case Read():
                return self._read()
            case Close():
                return self.close()
            case Sleep(seconds):
                return self._sleep(seconds)
            case Take():
                return next(self._items, NO_MORE)
            case Block(function):
                return function()
            case Emit():
                raise TypeError(_EMITS_OUTSIDE_ITERATE)

    def _open(self, request: Request, *, is_streamed: bool) -> Response | APIConnectionError:
        try:
            response = self._http.send(_to_httpx_request(self._http, request), stream=True)
            if is_streamed and response.is_success:
                self._response, self._chunks = response, response.iter_bytes()
                return _to_response(response, b"")
            with closing(response):
                return _to_response(response, response.read())
        except httpx2.RequestError as error:
            return _connection_error(error, request)

    def _read(self) -> bytes | APIConnectionError | None:
        try:
            return next(self._chunks, None)
        except httpx2.RequestError as error:
            return _connection_error(error, None)

    def close(self) -> None:
        response, self._response = self._response, None
        self._chunks = iter(())
        if response is not None:
            response.close()


class _AsyncExchange:
    """Async counterpart of ``_Exchange``."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        sleep: Callable[[float], Awaitable[None]],
        items: Iterable[Any] | AsyncIterable[Any],
    ) -> None:
        self._http = http
        self._sleep = sleep
        self._items = aiter(items) if isinstance(items, AsyncIterable) else _to_async_iterator(items)
        self._response: httpx2.Response | None = None
        self._chunks: AsyncGenerator[bytes] | None = None

    async def reply(self, step: Step) -> Any:
        match step:
            case Send(request):
                return await self._open(request, is_streamed=False)
            case Open(request):
                return await self._open(request, is_streamed=True)
            case Read():
                return await self._read()
            case Close():
                return await self.aclose()
            case Sleep(seconds):
                return await self._sleep(seconds)
            case Take():
                return await anext(self._items, NO_MORE)
            case Block(function):
                return await anyio.to_thread.run_sync(function)
            case Emit():
                raise TypeError(_EMITS_OUTSIDE_ITERATE)

    async def _open(self, request: Request, *, is_streamed: bool) -> Response | APIConnectionError:
        try:
            response = await self._http.send(_to_httpx_request(self._http, request), stream=True)
            if is_streamed and response.is_success:
                # An async generator must be closed explicitly: trio does not finalize it.
                self._response, self._chunks = response, response.aiter_bytes()
                return _to_response(response, b"")
            try:
                return _to_response(response, await response.aread())
            finally:
                await response.aclose()
        except httpx2.RequestError as error:
            return _connection_error(error, request)

    async def _read(self) -> bytes | APIConnectionError | None:
        try:
            return None if self._chunks is None else await anext(self._chunks, None)
        except httpx2.RequestError as error:
            return _connection_error(error, None)

    async def aclose(self) -> None:
        response, self._response = self._response, None
        chunks, self._chunks = self._chunks, None
        if chunks is not None:
            await chunks.aclose()
        if response is not None:
            await response.aclose()


async def _to_async_iterator(items: Iterable[T]) -> AsyncIterator[T]:
    for item in items:
        yield item


def _to_httpx_request(http: httpx2.Client | httpx2.AsyncClient, request: Request) -> httpx2.Request:
    return http.build_request(
        request.method,
        request.url,
        params=request.query,
        headers=request.headers,
        content=request.body,
        timeout=request.timeout_s,
    )


def _to_response(response: httpx2.Response, body: bytes) -> Response:
    return Response(response.status_code, {name.lower(): text for name, text in response.headers.items()}, body)


def _connection_error(error: httpx2.RequestError, request: Request | None) -> APIConnectionError:
    kind = APITimeoutError if isinstance(error, httpx2.TimeoutException) else APIConnectionError
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = f"{request.method} {request.url} got no response" if request else "The response broke off"
    ours = kind(f"{where}: {said}", request_id=request.request_id if request else None)
    ours.__cause__ = error
    return ours
