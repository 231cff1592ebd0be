"""Threads that raise: which of them may say so."""

import threading

import pytest

from cfr.pipeline.thread_errors import silent_threads


def failing_thread() -> tuple[threading.Thread, threading.Event]:
    """Raises as soon as the event is set."""
    event = threading.Event()

    def wait_and_fail():
        event.wait()
        raise RuntimeError

    return threading.Thread(target=wait_and_fail, daemon=True), event


def end(thread: threading.Thread, event: threading.Event) -> None:
    event.set()
    thread.join()


@pytest.fixture
def printed(monkeypatch) -> list[threading.Thread]:
    """Threads of which a traceback would be printed."""
    threads = []
    monkeypatch.setattr(threading, "excepthook", lambda raised: threads.append(raised.thread))
    return threads


def test_only_threads_that_started_within_are_silent(printed):
    """Catches: a runner's thread that notices its worker's death only after the job has ended prints a traceback."""
    before, between = failing_thread(), failing_thread()
    before[0].start()
    with silent_threads():
        early, late, longest = failing_thread(), failing_thread(), failing_thread()
        for thread, _ in (early, late, longest):
            thread.start()
        end(*early)
        end(*before)
    end(*late)
    between[0].start()
    end(*between)
    with silent_threads():
        end(*longest)
    assert printed == [before[0], between[0]]


def test_leaves_nothing_behind_when_its_threads_have_ended(printed):
    hook = threading.excepthook
    with silent_threads():
        thread, event = failing_thread()
        thread.start()
        end(thread, event)
    assert threading.excepthook is hook
    assert not printed
