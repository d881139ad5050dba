"""Validates the deployment files against the schemas of the programs that read them.

Needs kubectl and the environment that `make test-deployment` creates.
"""

from __future__ import annotations

import subprocess

from processes import SERVING, need, need_environment, run

KINDS = {"namespace", "configmap", "service", "persistentvolumeclaim", "deployment",
         "poddisruptionbudget", "horizontalpodautoscaler", "networkpolicy"}  # fmt: skip


def test_kustomize_output_is_valid(tmp_path):
    python = need_environment()
    built = tmp_path / "built.yaml"
    built.write_text(run(need("kubectl"), "kustomize", SERVING))
    command = [python, "-m", "kubernetes_validate", "--strict"]
    for version in ("1.29", "1.37"):
        done = subprocess.run([*command, "-k", version, built], capture_output=True, text=True)
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        assert {line.split("resource ")[1].split("/")[0] for line in output.splitlines()} == KINDS


def test_compose_file_and_queries():
    assert (
        run(need_environment(), SERVING / "tests" / "check_files.py") == "6 services, 9 queries\n"
    )


def test_docker_compose_accepts_the_file():
    """Only if docker compose is installed; the schema is always checked above."""
    known = subprocess.run(["sh", "-c", "docker compose version"], capture_output=True)
    if known.returncode == 0:
        made = run("docker", "compose", "--file", SERVING / "compose.yaml", "config", "--quiet")
        assert made == ""
