"""Runs a Beam job and watches over it: which runner, progress, dead workers, signals, the circuit breaker."""

import argparse
import contextlib
import difflib
import importlib.util
import logging
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_provision_api_pb2
from apache_beam.runners.job import utils as job_utils
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from tqdm import tqdm

from cfr.pipeline import console, local_worker, progress, storage
from cfr.pipeline.errors import UserError
from cfr.pipeline.manifests import Layout
from cfr.pipeline.storage import OutputUnwritable
from cfr.pipeline.thread_errors import silent_threads

_POLL_SECONDS = 0.5
_STOP_SECONDS = 15.0
_START_SECONDS = 120.0
_CLOSING_SECONDS = 5.0
_STALL_SECONDS = 600.0
_LOCAL_RUNNERS = {"", "direct", "directrunner", "fnapirunner", "switchingdirectrunner"}


@dataclass(frozen=True)
class Launch:
    """How a job is run.

    Attributes:
        options: all Beam options.
        local: on this machine, by FnApiRunner (never Prism: a binary from the internet).
        workers: local processes.
        replay: every bundle is run more than once, on purpose.
    """

    options: PipelineOptions
    local: bool
    workers: int
    replay: bool


@dataclass(frozen=True)
class Watch:
    """What the launcher looks at while the job runs.

    Attributes:
        layout: the job's output.
        rows: to do.
        breaker_rows: rows after which the circuit breaker judges.
        abort_failure_rate: it stops the job if more of the rows than this failed.
    """

    layout: Layout
    rows: int
    breaker_rows: int
    abort_failure_rate: float


@dataclass(frozen=True)
class Outcome:
    """How the run ended.

    Attributes:
        problem: "" if it ran to its end, else what stopped it.
        interrupted: by SIGINT or SIGTERM.
        stuck: the runner's threads cannot be ended: the process must leave by `os._exit`.
        seconds: wall time.
    """

    problem: str = ""
    interrupted: bool = False
    stuck: bool = False
    seconds: float = 0.0


def plan_launch(beam_arguments: Sequence[str], workers: int, output: str = "") -> Launch:
    """Beam options from the arguments that the command line did not know.

    Args:
        beam_arguments: e.g. ["--runner=FlinkRunner"].
        workers: local processes.
        output: where the job writes to, to see that the runner's machines can reach it.

    Raises:
        UserError: Beam does not know an argument either, or the runner cannot do the job.
    """
    _reject_unknown(beam_arguments)
    options = PipelineOptions(list(beam_arguments))
    runner = (options.view_as(StandardOptions).runner or "").rsplit(".", 1)[-1]
    if "dask" in runner.lower():
        raise UserError("--runner DaskRunner loses data silently; use DirectRunner, DataflowRunner, Flink or Spark")
    if "dataflow" in runner.lower() and output and storage.is_local(output):
        raise UserError(f"--output {output}: Dataflow's workers cannot write to this machine; give a gs:// folder")
    storage.use_options(options)
    if output:
        storage.check_scheme(output, "--output")
        if "dataflow" in runner.lower() and importlib.util.find_spec("apitools") is None:
            raise UserError("--runner DataflowRunner needs the extra `gcp`: pip install 'cfr[gcp]'")
    local = runner.lower() in _LOCAL_RUNNERS
    direct = options.view_as(DirectOptions)
    if local and (direct.direct_num_workers != 1 or direct.direct_running_mode != "in_memory"):
        raise UserError("use --workers N instead of --direct_num_workers and --direct_running_mode")
    if not local and workers != 1:
        raise UserError(f"--workers is for local runs; {runner} has flags of its own (--max_num_workers, parallelism)")
    if local:
        direct.direct_num_workers = workers
    return Launch(options, local, workers, direct.direct_runner_bundle_repeat > 0)


def run_job(launch: Launch, build: Callable[[beam.Pipeline], None], watch: Watch) -> Outcome:
    """Run a pipeline to its end, or until something stops it.

    Args:
        launch: how.
        build: adds the graph to a pipeline.
        watch: what to look at meanwhile.
    """
    started = time.monotonic()
    if launch.local:
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # errors are reported once, by _explain
    progress.start_afresh(watch.layout)
    if launch.local and launch.workers == 1:
        progress.in_launcher.set()
    folder = tempfile.mkdtemp(prefix="cfr-workers-")
    run = _Run(launch, build, folder)
    # Beam's threads that talk to a worker process raise when it dies; _supervise says so in one line.
    quiet = silent_threads() if run.in_processes else contextlib.nullcontext()
    try:
        with _Signals() as signals, quiet:
            problem = _supervise(run, watch, signals)
            stuck = problem != "" and not _stop(run, watch.layout)
        if not stuck:
            progress.stop_requested.clear()
        return Outcome(problem, signals.received, stuck, time.monotonic() - started)
    finally:
        progress.in_launcher.clear()
        shutil.rmtree(folder, ignore_errors=True)


class _Run:
    """The pipeline in a thread of its own: the main thread must stay free for signals."""

    def __init__(self, launch: Launch, build: Callable[[beam.Pipeline], None], folder: str):
        self.launch, self.folder = launch, folder
        self.in_processes = launch.local and launch.workers > 1
        self.error: BaseException | None = None
        self._build = build
        self._result = None
        self._cancelled = False
        self.thread = threading.Thread(target=self._run, name="pipeline", daemon=True)

    def _run(self) -> None:
        try:
            pipeline = beam.Pipeline(runner=self._runner(), options=self.launch.options)
            try:
                self._build(pipeline)
                self._result = pipeline.run()
                if self._cancelled:
                    self.cancel()
                self._result.wait_until_finish()
            finally:
                # Beam's own, which it leaves behind unless a pipeline is a context manager.
                shutil.rmtree(pipeline.local_tempdir, ignore_errors=True)
        except BaseException as error:
            self.error = error

    def _runner(self):
        if not self.launch.local:
            return None  # named by the options
        if not self.in_processes:
            return FnApiRunner()
        environment = SubprocessSDKEnvironment.from_command_string(local_worker.command(self.folder))
        given = self.launch.options.get_all_options(drop_default=True)
        # As text: a Struct's numbers are floats, and the worker's parser wants "2", not "2.0".
        texts = {name: value if isinstance(value, bool | list) else str(value) for name, value in given.items()}
        options = job_utils.dict_to_struct({f"beam:option:{name}:v1": value for name, value in texts.items()})
        provision = ExtendedProvisionInfo(beam_provision_api_pb2.ProvisionInfo(pipeline_options=options))
        return FnApiRunner(default_environment=environment, provision_info=provision)

    def cancel(self) -> None:
        """Ask the runner, a remote one, to stop."""
        self._cancelled = True
        if self._result is not None and not self.launch.local:
            self._result.cancel()


class _Signals:
    """While active, SIGINT and SIGTERM set a flag; a second one ends the process at once."""

    def __init__(self):
        self.received = False
        self._previous = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.received:
            os._exit(130)
        self.received = True


def _supervise(run: _Run, watch: Watch, signals: _Signals) -> str:
    """Poll until the pipeline ends or must be stopped; returns what the problem is, "" if none."""
    run.thread.start()
    started = time.monotonic()
    interactive = sys.stderr.isatty()
    last_change, last_state = started, None
    warned = workers_seen = False
    with tqdm(
        total=watch.rows,
        unit=" images",
        file=sys.stderr,
        mininterval=0.5 if interactive else 30.0,
        dynamic_ncols=True,
        disable=console.is_quiet(),
    ) as bar:
        while True:
            run.thread.join(_POLL_SECONDS)
            if signals.received:
                return "interrupted"
            ended = not run.thread.is_alive()
            heartbeats = progress.read_heartbeats(watch.layout)
            done = sum(heartbeat.rows_done for heartbeat in heartbeats)
            failed = sum(heartbeat.rows_failed for heartbeat in heartbeats)
            under_way = sum(heartbeat.rows_under_way for heartbeat in heartbeats)
            bar.set_postfix_str(f"{failed} failed", refresh=False)
            bar.update(max(0, int(min(done + under_way, watch.rows)) - bar.n))
            if ended:
                return _explain(run.error) if run.error else ""
            if done >= watch.breaker_rows and failed > watch.abort_failure_rate * done:
                return (
                    f"{failed} of the first {done} rows failed, more than --abort-failure-rate "
                    f"{watch.abort_failure_rate:g}: stopped; see failures/ in the output"
                )
            hung = [unit for beat in heartbeats for unit in beat.hung]
            if hung and run.launch.local:
                return (
                    f"a model call did not come back within {progress.HUNG_SECONDS:.0f} s in unit {', '.join(hung)}; "
                    "its rows will be done one by one"
                )
            if run.in_processes:
                dead = local_worker.dead_workers(run.folder)
                if dead:
                    run.thread.join(_CLOSING_SECONDS)
                    if not run.thread.is_alive():
                        continue  # the job is over, and its workers with it
                    units = [unit for beat in heartbeats if beat.pid in dead for unit in beat.unit_ids]
                    where = f" while it did unit {', '.join(units)}" if units else ""
                    return f"worker process {', '.join(map(str, dead))} died{where} (out of memory, or killed)"
                # At the end workers sign off one by one: that none runs then says nothing.
                workers_seen = workers_seen or bool(local_worker.running_workers(run.folder))
                if time.monotonic() - started > _START_SECONDS and not workers_seen:
                    return f"no worker process started within {_START_SECONDS:.0f} s"
            state = [(beat.pid, beat.time) for beat in heartbeats]
            if state != last_state:
                last_state, last_change, warned = state, time.monotonic(), False
            elif time.monotonic() - last_change > _STALL_SECONDS and not warned:
                warned = True
                bar.write(f"no worker has reported for {_STALL_SECONDS:.0f} s; interrupt and run again to resume")


def _stop(run: _Run, layout: Layout) -> bool:
    """End the workers; returns whether the runner has ended too. Units under way are not to blame: no strike."""
    logging.disable(logging.CRITICAL)  # what the runner says while its workers disappear helps nobody
    try:
        guilty = local_worker.dead_workers(run.folder)
        local_worker.kill_workers(run.folder)
        progress.stop_requested.set()
        run.cancel()
        ended = not run.thread.is_alive()
        if not run.in_processes:  # a runner whose worker processes are gone waits for ever
            run.thread.join(_STOP_SECONDS)
            ended = not run.thread.is_alive()
        # Only now: until here a worker may have finished one unit and started the next.
        innocent = [
            unit
            for beat in progress.read_heartbeats(layout)
            if beat.pid not in guilty
            for unit in beat.unit_ids
            if not any(hung.startswith(f"{unit} (") for hung in beat.hung)
        ]
        with contextlib.suppress(OSError):  # the output may be what broke; a strike too many costs nothing but time
            if run.error is not None and _is(run.error, OutputUnwritable):
                progress.clear_all_marks(layout)  # what could not be written includes who did what
            elif run.error is None or _is(run.error, progress.Stopped):
                for unit_id in innocent:
                    progress.clear_marks(layout, unit_id)
        return ended
    finally:
        logging.disable(logging.NOTSET)


def _is(error: BaseException, kind: type[BaseException]) -> bool:
    """Whether an error is of a kind; what comes from another process is text."""
    return isinstance(error, kind) or f"{kind.__name__}: " in str(error)


def _explain(error: BaseException) -> str:
    """One line; the innermost traceback goes to stderr: what gets here is no row's or unit's fault."""
    if _is(error, OutputUnwritable):
        return (
            re.sub(rf"(?s).*{OutputUnwritable.__name__}: ", "", str(error)).splitlines()[0].split(" [while running")[0]
        )
    origin = error
    while origin.__context__ is not None:
        origin = origin.__context__
    traceback.print_exception(origin, chain=False, file=sys.stderr)
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1].strip() if lines else ''}"


def _reject_unknown(arguments: Sequence[str]) -> None:
    # As PipelineOptions parses its flags itself; it only logs those that it does not know.
    parser = pipeline_options._BeamArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(arguments))
    except (argparse.ArgumentError, SystemExit) as error:
        raise UserError(f"Beam option: {error}") from None
    if unknown:
        known = [flag for action in parser._actions for flag in action.option_strings]
        close = difflib.get_close_matches(unknown[0].split("=")[0], known, n=1)
        hint = f"; did you mean {close[0]}?" if close else "; see --help, and Beam's documentation for runner flags"
        raise UserError(f"unknown argument {unknown[0]!r}, neither of this command nor of Beam{hint}")


def free_bytes(output: str) -> int | None:
    """Free space where the output goes; None if that cannot be told (object stores)."""
    if not storage.is_local(output):
        return None
    folder = os.path.abspath(output)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return shutil.disk_usage(folder).free
