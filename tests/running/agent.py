"""An agent for `respool run`: started with a folder, it does what files in it say, and writes there what befell it.

It notes its variables, signals and readiness probes in `log`. /readiness is 503 while there is a file `not_ready`, and
404 with a file `no_readiness`. A create streams one delta and then holds until there is a file `go`. With a file `code`
it ends with that exit code on SIGTERM, with a file `stubborn` not at all; with a file `leave` it ends before it
listens; with a file `children` it leaves a grandchild behind that ends soon.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

FOLDER = Path(sys.argv[1])
look = threading.Event()


def note(words: str) -> None:
    with (FOLDER / "log").open("a") as log:
        log.write(words + "\n")


def await_file(name: str) -> None:
    while not (FOLDER / name).exists():
        look.wait(0.01)


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        pass

    def do_GET(self) -> None:
        if self.path != "/readiness" or (FOLDER / "no_readiness").exists():
            status = 404
        else:
            status = 503 if (FOLDER / "not_ready").exists() else 200
        note(f"asked {self.path} {status}")
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        note("called")
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.say({"type": "response.output_text.delta", "delta": "held"})
        await_file("go")
        self.say({"type": "response.output_text.done", "text": "held"})
        self.wfile.write(b"0\r\n\r\n")

    def say(self, event: dict[str, str]) -> None:
        frame = f"data: {json.dumps(event)}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        self.wfile.flush()


def heard(number: int, _frame: FrameType | None) -> None:
    note(f"signal {signal.Signals(number).name}")
    if number == signal.SIGTERM and (FOLDER / "code").exists():
        os._exit(int((FOLDER / "code").read_text()))
    if number == signal.SIGTERM and not (FOLDER / "stubborn").exists():
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, heard)
    if (FOLDER / "children").exists():
        # The shell ends before its child does, which so becomes the first process's.
        subprocess.run(["sh", "-c", "(exec sleep 0.05) &"], check=True)
    ports = {name: os.environ.get(name) for name in ("PORT", "DEFAULT_AD_PORT", "MY_PORT")}
    note(f"started {os.getpid()} {json.dumps(ports)}")
    if (FOLDER / "leave").exists():
        os._exit(int((FOLDER / "leave").read_text()))
    ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answers).serve_forever()


main()
