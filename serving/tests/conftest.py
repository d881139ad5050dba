"""What the tests of the deployment share; `make test-deployment` runs them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SERVING = Path(__file__).parents[1]
CHECKOUT = SERVING.parent
sys.path.insert(0, str(CHECKOUT / "tests"))  # tiny_models

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def need(name):
    """The path of a program; a test without it fails."""
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if path is None:
        pytest.fail(f"this test needs {name}, which is not on the PATH", pytrace=False)
    return path


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


class Replica:
    """An embedded server as a process of its own, always on the same port."""

    def __init__(self, base_path, log):
        self.port = free_port()
        self.base_path = base_path
        self.log = log
        self.start()

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tfface.serve", f"--model_base_path={self.base_path}",
                 "--model_name=g", f"--port={self.port}"],
                cwd=CHECKOUT, stdout=log, stderr=log,
            )  # fmt: skip

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)


def with_addresses(conf, grpc_ports, rest_ports=(1, 1, 1), listen=(8500, 8501), pid="nginx.pid"):
    """nginx.conf with other addresses in place of the containers'."""
    for number, (grpc_port, rest_port) in enumerate(zip(grpc_ports, rest_ports, strict=True), 1):
        for port, ours in ((8500, grpc_port), (8501, rest_port)):
            conf, count = re.subn(rf"server serving-{number}:{port} ", f"server 127.0.0.1:{ours} ",
                                  conf)  # fmt: skip
            assert count == 1
    for port, ours in zip((8500, 8501), listen, strict=True):
        conf, count = re.subn(rf"listen {port}\b", f"listen 127.0.0.1:{ours}", conf)
        assert count == 1
    conf, count = re.subn(r"pid \S+;", f"pid {pid};", conf)
    assert count == 1
    return conf
