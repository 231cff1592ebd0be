"""One S3 connection per process and account: Beam's own client opens a new one for every file that it touches.

Opening one costs boto3 0.1 s of CPU (it reads its service descriptions anew); a unit touches about twenty files.
"""

import functools
import threading

from apache_beam.options.pipeline_options import PipelineOptions, S3Options


@functools.cache
def share_connections() -> None:
    """Make Beam's S3 clients of this process share one boto3 client, which threads may use side by side."""
    from apache_beam.io.aws.clients.s3.boto3_client import Client

    connect, connections, lock = Client.__init__, {}, threading.Lock()

    def share(client: Client, options: PipelineOptions | dict) -> None:
        values = options.view_as(S3Options).get_all_options() if isinstance(options, PipelineOptions) else options or {}
        key = tuple(sorted((name, str(value)) for name, value in values.items() if name.startswith("s3_")))
        with lock:
            if key not in connections:
                connect(client, options)
                connections[key] = client.client
        client.client = connections[key]
        # What Client.__init__ sets besides: where a download stands. It belongs to one open file.
        client._download_request = client._download_stream = None
        client._download_pos = 0

    Client.__init__ = share
