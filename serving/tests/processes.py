"""Processes that the tests start: embedded servers, nginx and other programs."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import wait_for

SERVING = Path(__file__).parents[1]
CHECKOUT = SERVING.parent
ENVIRONMENT = CHECKOUT / "build" / "deployment"


def need(name):
    """The path of a program; fails the test if it is not installed."""
    path = shutil.which(name, path=os.environ["PATH"] + os.pathsep + "/usr/sbin")
    if path is None:
        pytest.fail(f"this test needs {name}, which is not on the PATH", pytrace=False)
    return path


def need_environment():
    """The Python interpreter of the tests' separate environment."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        pytest.fail(f"this test needs {python}: run it by make test-deployment", pytrace=False)
    return python


def run(*command, **options):
    """The output of a command, which must succeed."""
    done = subprocess.run(
        [str(c) for c in command], capture_output=True, text=True, timeout=120, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Replica:
    """An embedded server in its own process, always on the same port."""

    def __init__(self, base_path, log, *flags):
        self.port = free_port()
        self.log = log
        self.command = [sys.executable, "-m", "tfface.serve", f"--model_base_path={base_path}",
                        "--model_name=g", f"--port={self.port}", *flags]  # fmt: skip
        self.start()

    def start(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(self.command, cwd=CHECKOUT, stdout=log, stderr=log)

    def wait_until_ready(self):
        def ready():
            assert self.process.poll() is None, self.log.read_text()
            return is_open(self.port)

        wait_for(ready, 120)

    def kill(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def replicas(count, base_path, folder):
    """Servers that are ready."""
    started = [Replica(base_path, folder / f"replica-{n}.log") for n in range(count)]
    try:
        for replica in started:
            replica.wait_until_ready()
        yield started
    finally:
        for replica in started:
            replica.kill()


def shipped_conf(pid, listen=(8500, 8501), grpc_ports=(1, 2, 3)):
    """serving/nginx.conf with local addresses in place of the containers'; without REST."""
    text = (SERVING / "nginx.conf").read_text()
    places = {f"server serving-{n}:8500 ": f"server 127.0.0.1:{port} "
              for n, port in enumerate(grpc_ports, 1)}  # fmt: skip
    places |= {f"server serving-{n}:8501 ": f"server 127.0.0.1:{n} " for n in (1, 2, 3)}
    places |= {f"listen {port}": f"listen 127.0.0.1:{ours}"
               for port, ours in zip((8500, 8501), listen, strict=True)}  # fmt: skip
    places |= {re.search(r"pid .*;", text)[0]: f"pid {pid};"}
    for old, new in places.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


class Proxy:
    """nginx with the shipped configuration.

    Attributes:
        port: Port for gRPC clients.
        calls: The request log.
    """

    def __init__(self, servers, folder):
        self.port = free_port()
        self.calls = folder / "calls.log"
        conf = folder / "nginx.conf"
        ports = [server.port for server in servers]
        conf.write_text(shipped_conf(folder / "pid", (self.port, free_port()), ports))
        with self.calls.open("w") as calls, (folder / "errors.log").open("w") as errors:
            self.process = subprocess.Popen(
                [need("nginx"), "-c", conf, "-g", "daemon off;"], stdout=calls, stderr=errors
            )
        wait_for(lambda: is_open(self.port))

    def stop(self):
        self.process.terminate()
        self.process.wait()
