"""One launch at a time works on an output folder: its holder renews a small file, others look at it and refuse.

It keeps two launches from counting each other's work and cleaning up each other's files. It is no lock: object stores
have none. Should two launches hold it for a moment, both still end right, because a commit replaces a unit's files by
the same bytes.
"""

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass

from cfr.pipeline import storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.manifests import Layout


@dataclass(frozen=True)
class _Pace:
    """Seconds between renewals, after which an unchanged lease is dead, and until two claims have seen each other."""

    renew: float
    patience: float
    settle: float


_LOCAL = _Pace(renew=1.0, patience=5.0, settle=0.05)
_REMOTE = _Pace(renew=15.0, patience=60.0, settle=2.0)


class Lease:
    """Held while a launch changes an output folder; a context manager.

    A holder that was killed is recognised at once on its own machine, and after a minute (local folders: five seconds)
    without renewal from another.

    Raises:
        UserError: on entering: another launch holds it.
    """

    def __init__(self, layout: Layout):
        self._output = layout.output
        self._path = storage.join(layout.output, "_launch.json")
        self._pace = _LOCAL if storage.is_local(layout.output) else _REMOTE
        self._token = uuid.uuid4().hex
        self._renewals = 0
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        self._wait_for_a_dead_holder()
        self._write()
        time.sleep(self._pace.settle)
        holder = self._read()
        if holder and holder["token"] != self._token:
            raise self._refusal(holder)
        self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._left.set()
        self._thread.join()
        holder = self._read()
        if holder and holder["token"] == self._token:
            with contextlib.suppress(OSError):  # it dies with this process
                storage.delete([self._path])

    def _wait_for_a_dead_holder(self) -> None:
        """Return when nobody holds the lease."""
        first = self._read()
        if first is None or _has_died(first):
            return
        deadline = time.monotonic() + self._pace.patience
        while time.monotonic() < deadline:
            time.sleep(self._pace.renew / 4)
            holder = self._read()
            if holder is None:
                return
            if holder != first:
                raise self._refusal(holder)

    def _refusal(self, holder: dict) -> UserError:
        return UserError(
            f"--output {self._output}: another launch works on it (process {holder['pid']} on {holder['host']}, since "
            f"{holder['since']}); wait for it or stop it, then run this again, or choose another --output"
        )

    def _renew(self) -> None:
        while not self._left.wait(self._pace.renew):
            holder = self._read()
            if holder and holder["token"] != self._token:
                return  # this process was asleep for so long that another launch took over
            with contextlib.suppress(OSError):  # a full disk is reported by whoever commits a unit
                self._write()

    def _write(self) -> None:
        self._renewals += 1
        if self._renewals == 1:
            self._since = time.strftime("%Y-%m-%d %H:%M:%S")
        holder = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "since": self._since,
            "renewals": self._renewals,
        }
        try:
            storage.write_bytes(self._path, json.dumps(holder).encode())
        except OSError as error:
            if self._renewals == 1:
                raise UserError(
                    f"--output {self._output}: cannot write there ({error}); check path, space and permissions"
                ) from None
            raise

    def _read(self) -> dict | None:
        """Who holds it; None if nobody does."""
        for _ in range(20):
            try:
                holder = json.loads(storage.read_bytes(self._path))
                return holder if {"token", "host", "pid", "since"} <= holder.keys() else None
            except (ValueError, AttributeError):
                time.sleep(0.01)  # it is being written just now
            except OSError:
                return None
        return None  # damaged for good: by a holder that was killed while it wrote


def _has_died(holder: dict) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    if holder["host"] != socket.gethostname():
        return False
    if holder["pid"] == os.getpid():
        return True  # process ids start over with a container
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
