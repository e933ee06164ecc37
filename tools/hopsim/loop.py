"""An event loop in virtual time, and processes that can be killed in it.

Time stands still while callbacks run and jumps to the next timer when none is ready. Nothing of a run depends on
memory addresses: tasks and futures hash by the order in which they were made, since asyncio keeps them in sets.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, NoReturn

TASKS_KEPT_MIN = 256
"""From so many tasks of a process on, the ended ones are dropped now and then."""


class Process:
    """What can be killed: everything that was started in it stops for good, wherever it is.

    :param name: for the trace.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.stalled_since = 0.0
        self.stalled_until = 0.0
        """It gets no processor until then, in seconds of the loop's time."""

        self.tasks: list[asyncio.Task[Any]] = []
        """Kept, so that no generator of a dead process is ever collected and runs its ``finally`` within the run."""

        self.blocking: Callable[[str], float | Exception] | None = None
        """Asked before each call that would go to a worker thread: how many seconds it takes, or its error."""

        self.stepped: Callable[[str], None] | None = None
        """Told before and after each such call; may kill this process."""

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """Keep ``task`` for as long as the run."""
        if len(self.tasks) >= TASKS_KEPT_MIN and len(self.tasks) % TASKS_KEPT_MIN == 0:
            self.tasks = [kept for kept in self.tasks if not kept.done()]
        self.tasks.append(task)


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class Handle:
    """A callback that waits for its turn."""

    __slots__ = ("args", "callback", "context", "off", "when_s")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, when_s: float) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.when_s = when_s
        self.off = False

    def cancel(self) -> None:
        """Do not call it."""
        self.off = True

    def cancelled(self) -> bool:
        """Whether it will not be called."""
        return self.off

    def when(self) -> float:
        """When it is due."""
        return self.when_s


class _Task(asyncio.Task):  # type: ignore[type-arg]  # the C class is not generic at run time
    def __init__(self, number: int, coro: Coroutine[Any, Any, Any], **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class _Future(asyncio.Future):  # type: ignore[type-arg]
    def __init__(self, number: int, **options: Any) -> None:
        self._number = number
        super().__init__(**options)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.AbstractEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._now_s = 1000.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._numbers = itertools.count(1)
        self._closed = False
        self.bugs: list[str] = []
        """What nobody handled."""

    # -- running ---------------------------------------------------------------------------------------------------

    def run_while(self, going: Callable[[], bool], until_s: float) -> bool:
        """Run while ``going()``, asked whenever time is about to pass; False if ``until_s`` came first."""
        events._set_running_loop(self)  # noqa: SLF001 - what every loop has to call
        try:
            while True:
                self._run_ready()
                if not going():
                    return True
                timers = self._timers
                while timers and timers[0][2].off:
                    heapq.heappop(timers)
                if not timers or timers[0][0] > until_s:
                    return False
                self._now_s = max(self._now_s, timers[0][0])
                while timers and timers[0][0] <= self._now_s:
                    self._ready.append(heapq.heappop(timers)[2])
        finally:
            events._set_running_loop(None)  # noqa: SLF001

    def _run_ready(self) -> None:
        ready = self._ready
        while ready:
            handle = ready.popleft()
            if handle.off:
                continue
            process = handle.context.get(PROCESS)
            if process is not None:
                if not process.alive:
                    continue
                if process.stalled_until > self._now_s:
                    heapq.heappush(self._timers, (process.stalled_until, next(self._numbers), handle))
                    continue
            try:
                handle.context.run(handle.callback, *handle.args)
            except Exception as error:  # noqa: BLE001 - whatever nobody handled is a finding
                self.bugs.append(f"{error!r} in {handle.callback!r}")

    def spawn(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``coro`` as part of ``process``."""
        context = contextvars.Context()
        context.run(PROCESS.set, process)
        task: asyncio.Task[Any] = self.create_task(coro, context=context)
        return task

    def at_world(self, delay_s: float, callback: Callable[..., Any], *args: Any) -> Handle:
        """Call back after ``delay_s`` as nobody's: no kill prevents it."""
        handle: Handle = self.call_at(self._now_s + delay_s, callback, *args, context=contextvars.Context())
        return handle

    # -- what asyncio asks of a loop -------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    def call_soon(  # type: ignore[override]  # handles of its own
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        if self._closed:
            raise RuntimeError("the loop is closed")
        if context is None:
            context = contextvars.copy_context()
        handle = Handle(callback, args, context, self._now_s)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        if self._closed:
            raise RuntimeError("the loop is closed")
        if context is None:  # an empty one counts as false
            context = contextvars.copy_context()
        handle = Handle(callback, args, context, when)
        heapq.heappush(self._timers, (when, next(self._numbers), handle))
        return handle

    def create_future(self) -> Any:
        return _Future(next(self._numbers), loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None) -> Any:
        task = _Task(next(self._numbers), coro, loop=self, name=name or "", context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.adopt(task)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """The call happens in one piece, some time later, whether or not the caller still waits for it then."""
        future = self.create_future()
        process = PROCESS.get()
        name = _name_of(func)
        taking = process.blocking(name) if process is not None and process.blocking is not None else 0.0
        delay_s, error = (0.0, taking) if isinstance(taking, Exception) else (taking, None)
        self.call_later(delay_s, self._run_blocking, process, name, future, error, func, args)
        return future

    def _run_blocking(
        self,
        process: Process | None,
        name: str,
        future: asyncio.Future[Any],
        error: Exception | None,
        func: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        stepped = process.stepped if process is not None else None
        if stepped is not None:
            stepped(f"before {name}")
            if not process.alive:  # type: ignore[union-attr]
                return
        result = None
        if error is None:
            try:
                result = func(*args)
            except Exception as raised:  # noqa: BLE001 - it is the caller's
                error = raised
        if stepped is not None:
            stepped(f"after {name}")
        if not future.done():
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self._closed:
            self.bugs.append(f"{context.get('message')}: {context.get('exception')!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def _timer_handle_cancelled(self, handle: object) -> None:
        return

    def run_forever(self) -> NoReturn:
        raise NotImplementedError("see run_while")


def _name_of(func: Any) -> str:
    """What :func:`asyncio.to_thread` was asked to call."""
    args = getattr(func, "args", ())
    return str(getattr(args[0], "__qualname__", args[0])) if args else str(getattr(func, "__qualname__", func))
