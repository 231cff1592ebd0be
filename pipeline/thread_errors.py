"""What threads of a library print when they raise."""

import contextlib
import threading
import weakref
from collections.abc import Iterator


@contextlib.contextmanager
def silent_threads() -> Iterator[None]:
    """Threads that start within print no traceback when they raise, nor afterwards if they outlive it."""
    outside, previous = set(threading.enumerate()), threading.excepthook
    threading.excepthook = lambda raised: previous(raised) if raised.thread in outside else None
    try:
        yield
    finally:
        left = weakref.WeakSet(thread for thread in threading.enumerate() if thread not in outside)
        threading.excepthook = previous
        if left:
            threading.excepthook = lambda raised: None if raised.thread in left else previous(raised)
