"""The device's loop: no news is lost, and a failure is heard."""

from __future__ import annotations

import threading
import time

import pytest

from paceline import loop as loop_module
from paceline.loop import DeviceLoop


class Counting:
    """Works off what it is given, one at a time."""

    def __init__(self, *, fails: bool = False) -> None:
        self.changed = threading.Condition()
        self.left, self.done, self._fails = 0, 0, fails

    def give(self, count: int) -> None:
        with self.changed:
            self.left += count
            self.changed.notify()

    def work(self) -> bool:
        with self.changed:
            if not self.left:
                return False
            if self._fails:
                raise ValueError("broken")
            self.left -= 1
            self.done += 1
            return True

    def wait_seconds(self) -> float | None:
        return 0.0 if self.left else None


def wait_for(condition: object, loop_seconds: float = 5.0) -> None:
    deadline = time.monotonic() + loop_seconds
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.001)


def test_all_work_is_done_and_the_loop_stops_while_it_sleeps() -> None:
    worker, failures = Counting(), list[BaseException]()
    loop = DeviceLoop("test", worker, failures.append)
    loop.start()
    for _ in range(200):
        worker.give(1)
    wait_for(lambda: worker.done == 200)
    loop.stop()
    assert (worker.done, failures) == (200, [])


def test_a_failure_is_reported_once() -> None:
    worker, failures = Counting(fails=True), list[BaseException]()
    loop = DeviceLoop("test", worker, failures.append)
    loop.start()
    worker.give(1)
    wait_for(lambda: bool(failures))
    loop.stop()
    assert [str(error) for error in failures] == ["broken"]


class Stuck(Counting):
    """Its first piece of work does not end before it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def work(self) -> bool:
        if self.left:
            self.let_go.wait()
        return super().work()


def test_a_stall_shows_and_sleep_is_none() -> None:
    worker = Stuck()
    loop = DeviceLoop("test", worker, lambda error: None)
    loop.start()
    time.sleep(0.05)
    assert loop.stalled_seconds == 0  # nothing to do is no stall
    worker.give(1)
    wait_for(lambda: loop.stalled_seconds > 0.05)
    assert loop.stalled_seconds > 0.05
    worker.let_go.set()
    wait_for(lambda: worker.done == 1 and loop.stalled_seconds == 0)
    assert loop.stalled_seconds == 0
    loop.stop()


def test_work_that_hangs_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "PATIENCE_SECONDS", 0.05)
    go_on, worker = threading.Event(), Counting()
    monkeypatch.setattr(worker, "work", lambda: go_on.wait(20) and False)
    loop = DeviceLoop("test", worker, lambda _: None)
    loop.start()
    stopping = threading.Thread(target=loop.stop)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    go_on.set()
