"""Beam's local job service, except that it has two SDK workers per environment: its own always has one.

`python two_worker_job_service.py PORT`
"""

import logging
import sys
import threading

from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import FnApiRunner


class TwoWorkerJob(local_job_service.BeamJob):
    """A job of such a service."""

    def _invoke_runner(self):
        self.set_state(beam_job_api_pb2.JobState.RUNNING)
        runner = FnApiRunner(provision_info=self._provision_info)
        runner._num_workers = 2
        return runner.run_via_runner_api(self._pipeline_proto, self.pipeline_options())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    local_job_service.LocalJobServicer(beam_job_type=TwoWorkerJob).start_grpc_server(int(sys.argv[1]))
    threading.Event().wait()
