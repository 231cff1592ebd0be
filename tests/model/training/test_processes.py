"""Processes of a training that average what they compute: here two, with gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
from pathlib import Path
import torch
from cfr.model.training.processes import Processes

def threads():
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sum("gloo" in name for name in names)

processes = Processes.start("cpu")
weight = torch.nn.Parameter(torch.tensor([1.0, processes.rank]))
processes.copy_from_first([weight.data])
optimizer = torch.optim.Adam([weight])
(weight * (1 + processes.rank)).sum().backward()
processes.average_gradients([weight])
optimizer.step()
print(processes.gather(processes.rank), weight.grad.tolist(), threads() > 0)
processes.stop()
print(threads())
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in Linux's /proc")
def test_a_process_that_left_the_others_has_no_threads_of_theirs():
    """A thread of gloo that is left holds tensors, and aborts the process when it lets go of them too late."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    variables = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM],
            env=variables | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120)[0] for process in both]
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0]
    assert [output.splitlines() for output in outputs] == [["[0, 1] [1.5, 1.5] True", "0"]] * 2
