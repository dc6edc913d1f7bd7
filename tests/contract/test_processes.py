"""Two processes on loopback, one mesh: the values of one process, bit for bit."""

import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests.support import processes
from tests.support.meshes import make_mesh
from tests.support.repository import ROOT


@pytest.fixture(scope="module")
def texts():
    """Start two processes once for all cases; return what each one printed."""
    number = 2
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "tests.support.processes"]
    started = [
        subprocess.Popen(
            [*command, str(index), str(number), coordinator],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT,
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
        )
        for index in range(number)
    ]  # fmt: skip
    try:
        return [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()


@pytest.mark.parametrize("case", processes.CASES)
def test_equal_over_two_processes(case, texts):
    for index, text in enumerate(texts):
        assert f"process {index}: {case} is equal" in text, text


def test_the_comparison_can_fail():
    where = NamedSharding(make_mesh((8,)), PartitionSpec("x"))
    whole = jnp.arange(16.0)
    processes.check([jax.device_put(whole, where)], [whole])
    with pytest.raises(AssertionError):
        processes.check([jax.device_put(whole.at[15].set(0), where)], [whole])
    with pytest.raises(AssertionError):
        processes.check([whole], [whole])
