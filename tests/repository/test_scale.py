"""The job files of docs/scale: every process gets its `TF_CONFIG` and the command to run."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tfface.config import parse_training
from tfface.engine.workers import from_environment
from tfface.methods import METHODS, get_config

SCALE = Path(__file__).parents[2] / "docs" / "scale"
# Stand-ins for the programs that the files call.
PROGRAMS = {
    "python": 'echo "$TF_CONFIG"; printf "%s " "$@"; echo',
    "scontrol": 'test "$*" = "show hostnames node[1-3]" && printf "node1\\nnode2\\nnode3\\n"',
    "srun": 'for i in 0 1 2; do SLURM_PROCID=$i "$@" || exit; done',
}


@pytest.fixture
def run(tmp_path):
    """Runs words with the stand-ins; returns each process's workers and command."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def run(*words, **environment):
        path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            words, env={"PATH": path, **environment}, capture_output=True, text=True, check=True
        )
        found = done.stdout.splitlines()
        return list(zip(map(workers, found[::2]), map(str.split, found[1::2]), strict=True))

    return run


def workers(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TF_CONFIG", text)
        return from_environment()


def check_command(words):
    assert words[:2] == ["-m", "tfface.train"]
    method, config, options = parse_training(words[2:], {m: get_config(m) for m in METHODS})
    assert (method, options.run) == ("sargan", "/runs/sargan") and config.data.path == "/data"


def test_the_slurm_script_starts_a_worker_on_every_machine(run):
    command = ["sargan", "--preset", "paper", "--data.path", "/data", "--run", "/runs/sargan"]
    script = SCALE / "slurm.sh"
    jobs = run("bash", script, *command, SLURM_JOB_ID="123456", SLURM_JOB_NODELIST="node[1-3]")
    assert [w.index for w, _ in jobs] == [0, 1, 2]
    for found, words in jobs:
        assert found.addresses == tuple(f"node{i}:23456" for i in (1, 2, 3))
        check_command(words)


def test_the_kubernetes_job_starts_a_worker_in_every_pod(run):
    service, job = yaml.safe_load_all((SCALE / "kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    machines = container["env"][0]["value"]
    assert spec["completions"] == spec["parallelism"] == int(machines)
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    port = service["spec"]["ports"][0]["port"]
    assert container["ports"][0]["containerPort"] == port
    for index in range(int(machines)):
        environment = {"MACHINES": machines, "JOB_COMPLETION_INDEX": str(index)}
        ((found, words),) = run(*container["command"], *container["args"], **environment)
        # An indexed job names its pods JOB-INDEX.
        hosts = tuple(f"{name}-{i}.{pod['subdomain']}:{port}" for i in range(int(machines)))
        assert (found.addresses, found.index) == (hosts, index)
        check_command(words)
