"""The Dockerfiles and manifests, held against the rules and schemas of those who read them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
EXAMPLES = REPOSITORY / "examples"


def complaints_of(*command: str | Path) -> str:
    """What a checker says; it ends with 0 when it has nothing against the file."""
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("path", ["Dockerfile", "examples/azure/Dockerfile"])
def test_the_dockerfiles_pass_the_linter(path: str) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([linter, REPOSITORY / path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_is_one() -> None:
    schema = ("--builtin-schema", "vendor.compose-spec")
    assert complaints_of("check_jsonschema", *schema, EXAMPLES / "compose" / "compose.yaml") == ""


def test_the_kubernetes_manifest_is_one() -> None:
    # Native sidecars are in the schemas from this version on.
    schema = ("--kubernetes-version", "1.29", "--strict")
    assert complaints_of("kubernetes_validate", *schema, EXAMPLES / "kubernetes" / "agent.yaml") == ""


def test_the_systemd_unit_has_no_fault(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        assert "CI" not in os.environ, "systemd-analyze is not installed"
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "respool.service"
    # Only what is on this machine can be executed here.
    unit.write_text((EXAMPLES / "systemd" / unit.name).read_text().replace("/opt/respool/bin/respool", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    # It ends with 0 for keys that it does not know, and says so.
    assert [line for line in done.stderr.splitlines() if "respool.service" in line] == []
    assert done.returncode == 0, done.stderr
