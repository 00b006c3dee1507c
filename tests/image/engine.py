"""Images without a container engine: a base made with debootstrap, a build with buildah, a start with bubblewrap.

No engine runs on the machines of developers and CI, and no base image can be pulled there. What the Dockerfile names as
its bases is made from Debian's packages; everything after them is the Dockerfile's own.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.environments import REPOSITORY

TOOLS = ("buildah", "debootstrap", "bwrap", "setpriv")
PYTHON = ("python3", "python3-venv", "python3-pip", "ca-certificates")
USER = 10001


class Failed(Exception):
    """A command ended with an error; the message carries its last words."""


def missing() -> str | None:
    """Why no image can be built here, None if one can."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    return None if os.geteuid() == 0 else "only root can make a base image"


@dataclass(frozen=True, slots=True)
class Engine:
    """buildah with a storage of its own in `folder`."""

    folder: Path

    def buildah(self, *arguments: str) -> str:
        """What a buildah command prints. Raises Failed."""
        storage = ("--root", str(self.folder / "storage"), "--runroot", str(self.folder / "run"))
        return run("buildah", *storage, *arguments)

    def make_bases(self) -> None:
        """The three images that the Dockerfile begins with, out of one tree of Debian's stable release."""
        tree = self.folder / "trixie"
        include = ",".join(PYTHON)
        run("debootstrap", "--variant=minbase", f"--include={include}", "trixie", str(tree), _mirror())
        for name in ("python", "python3"):
            (tree / "usr" / "local" / "bin" / name).symlink_to("/usr/bin/python3")
        for file in ("etc/ssl/certs/ca-certificates.crt", "etc/resolv.conf", "etc/hosts"):
            shutil.copy(Path("/", file), tree / file)
        # A mirror that stands still for a while is good enough for a test.
        (tree / "etc" / "apt" / "apt.conf.d" / "mirror").write_text('Acquire::Check-Valid-Until "false";')
        for name in ("python:3.13-slim", "debian:trixie-slim"):
            self._commit(tree, name)
        sources = tree / "etc" / "apt" / "sources.list"
        sources.write_text(sources.read_text().replace("trixie", "forky"))
        self._commit(tree, "debian:forky-slim")

    def make_agent(self, name: str, program: Path) -> None:
        """An image with an agent, which knows nothing of respool: `python main.py` in its working directory."""
        container = self.buildah("from", "--pull-never", "python:3.13-slim")
        self.buildah("add", container, str(program), "/agent/main.py")
        self.buildah("config", "--workingdir", "/agent", "--entrypoint", '["python", "main.py"]', container)
        self._save(container, f"localhost/{name}")

    def _commit(self, tree: Path, name: str) -> None:
        container = self.buildah("from", "scratch")
        self.buildah("add", container, str(tree), "/")
        self.buildah("config", "--env", "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", container)
        self._save(container, f"docker.io/library/{name}")

    def _save(self, container: str, name: str) -> None:
        self.buildah("commit", "--format", "docker", container, name)
        self.buildah("rm", container)

    def build(self, name: str, folder: Path = REPOSITORY, **arguments: str) -> None:
        """Build the Dockerfile in `folder`, by default the repository's, with these build arguments."""
        # What pip must know of this machine; where it knows nothing special, the files are empty.
        secrets = {"pip_conf": Path("/etc/pip.conf"), "ca": Path("/etc/ssl/certs/ca-certificates.crt")}
        named = [f"--secret=id={id_},src={path}" for id_, path in secrets.items() if path.exists()]
        folders = [f"--volume={path}:{path}:ro" for path in sorted(Path("/opt").glob("*")) if _is_for_pip(path)]
        flags = ("--isolation", "chroot", "--format", "docker", "--pull-never")
        given = [f"--build-arg={argument}={value}" for argument, value in arguments.items()]
        self.buildah("bud", *flags, *named, *folders, *given, "--tag", name, str(folder))

    def unpack(self, name: str) -> "Image":
        """The files of an image as a folder that others may enter, and how it wants to be started."""
        container = self.buildah("from", "--pull-never", name)
        mounted = self.buildah("mount", container)
        root = self.folder / f"root_of_{name}"
        root.mkdir(mode=0o755)
        run("mount", "--bind", mounted, str(root))
        config = json.loads(self.buildah("inspect", "--type", "image", name))["Docker"]["config"]
        return Image(root, config)

    def close(self) -> None:
        """Undo the mounts. The folder itself is the caller's."""
        for root in self.folder.glob("root_of_*"):
            run("umount", str(root))
        self.buildah("umount", "--all")
        self.buildah("rm", "--all")


@dataclass(frozen=True, slots=True)
class Image:
    """A tree of files, and what its configuration says of starting it."""

    root: Path
    config: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(variable.split("=", 1) for variable in self.config["Env"])

    @property
    def command(self) -> list[str]:
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def volume(self) -> str:
        """Where data goes that outlives a container."""
        return str(next(iter(self.config.get("Volumes") or ["/mnt"])))

    @property
    def health_command(self) -> list[str]:
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return list(command)

    def start(self, command: Sequence[str], data: Path | None = None, **variables: str) -> subprocess.Popen[str]:
        """Start a command in the tree, read-only, as a user that is not root, with `data` as its volume.

        It has the network of this machine, so let it listen on the loopback address alone.
        """
        told = [part for item in {**self.environment, **variables}.items() for part in ("--setenv", *item)]
        binds = ["--bind", str(data), self.volume] if data else []
        return subprocess.Popen(
            [
                *("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--"),
                *("bwrap", "--unshare-user", "--unshare-pid", "--as-pid-1", "--ro-bind", str(self.root), "/"),
                *("--proc", "/proc", "--dev", "/dev", *binds, "--clearenv", *told),
                *("--chdir", self.config.get("WorkingDir") or "/", "--", *command),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, command: Sequence[str], data: Path | None = None, **variables: str) -> tuple[int, str]:
        """Exit code and output of a command that ends by itself."""
        with self.start(command, data, **variables) as process:
            output, _ = process.communicate()
        return process.returncode, output


def first_process_in(process: subprocess.Popen[str]) -> int:
    """The process id, here, of what bubblewrap started in there."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def run(*command: str) -> str:
    """What a command prints, without the last line's end. Raises Failed."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed("\n".join([" ".join(command), *(done.stdout + done.stderr).splitlines()[-20:]]))
    return done.stdout.strip()


def _mirror() -> str:
    """Where this machine gets Debian from."""
    for line in run("apt-get", "indextargets", "--format", "$(LABEL) $(COMPONENT) $(REPO_URI)").splitlines():
        if line.startswith("Debian main "):
            return line.split()[2]
    raise Failed("apt knows no source of Debian's packages")


def _is_for_pip(path: Path) -> bool:
    """Whether pip's configuration on this machine names the folder."""
    return str(path) in run("python3", "-m", "pip", "config", "debug")
