"""The files against the schemas of the programs that read them. Needs kubectl and the environment
that `make test-deployment` makes."""

from __future__ import annotations

import subprocess

from processes import SERVING, need, need_environment, run

KINDS = {"namespace", "configmap", "service", "persistentvolumeclaim", "deployment",
         "poddisruptionbudget", "horizontalpodautoscaler", "networkpolicy"}  # fmt: skip


def test_kubernetes_takes_what_kustomize_makes(tmp_path):
    python = need_environment()
    made = tmp_path / "made.yaml"
    made.write_text(run(need("kubectl"), "kustomize", SERVING))
    command = [python, "-m", "kubernetes_validate", "--strict"]
    for version in ("1.29", "1.37"):
        done = subprocess.run([*command, "-k", version, made], capture_output=True, text=True)
        said = done.stdout + done.stderr
        assert done.returncode == 0, said
        assert {line.split("resource ")[1].split("/")[0] for line in said.splitlines()} == KINDS


def test_compose_file_and_queries():
    assert (
        run(need_environment(), SERVING / "tests" / "check_files.py") == "6 services, 9 queries\n"
    )


def test_docker_compose_takes_the_file():
    """Where there is docker compose; its schema is checked above in any case."""
    known = subprocess.run(["sh", "-c", "docker compose version"], capture_output=True)
    if known.returncode == 0:
        made = run("docker", "compose", "--file", SERVING / "compose.yaml", "config", "--quiet")
        assert made == ""
