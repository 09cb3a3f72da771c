"""`segue` as a process that is there at once: forked from one that has imported everything already.

Nearly all of the time of a short command is its imports, over a second, and the tests start hundreds. What is forked is
a process as any other: its own memory, environment, folder, streams, signals and exit code. Tests of how `segue` starts,
what it costs, and how it dies start the true one.
"""

import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

# The command that a test starts. It hands over what it was started with, passes signals on, and ends as the other does.
_COMMAND = """\
#!{python} -IS
import json, os, signal, socket, sys
where = socket.socket(socket.AF_UNIX)
where.connect({address!r})
mask = os.umask(0)
os.umask(mask)
order = {{"arguments": sys.argv[1:], "environment": dict(os.environ), "folder": os.getcwd(), "umask": mask}}
told = json.dumps(order).encode()
socket.send_fds(where, [len(told).to_bytes(8, "big")], [0, 1, 2])
where.sendall(told)
answers = where.makefile()
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.kill(process, number))
code = int(answers.readline())
if code < 0:
    signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@cache
def forked_segue() -> Path:
    """Give the path of an executable `segue` in a folder of its own. What is behind it ends with this process."""
    folder = Path(tempfile.mkdtemp(prefix="segue-forked-"))
    address = folder / "socket"
    server = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE)

    def end() -> None:
        assert server.stdin is not None
        server.stdin.close()
        server.wait()
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()

    atexit.register(end)
    command = folder / "segue"
    command.write_text(_COMMAND.format(python=sys.executable, address=str(address)))
    command.chmod(0o700)
    while not address.exists():
        assert server.poll() is None, "the process to fork from did not start"
        time.sleep(0.02)
    return command


def _import_all() -> None:
    import segue.connectors
    import segue.core
    import segue.mappings
    import segue.sync

    for package in (segue.core, segue.mappings, segue.connectors, segue.sync):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith(("__main__", ".env", "testing")) and ".versions" not in module.name:
                importlib.import_module(module.name)


def _serve(address: str) -> list[str]:
    """Fork until stdin ends. Comes back in what is forked, with the arguments of the command."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(64)
    Path(f"{address}.new").rename(address)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch over commands
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        caller, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _begin(caller)
        caller.close()


def _begin(caller: socket.socket) -> list[str]:
    """Become the command, watched over by this process."""
    length, streams, _, _ = socket.recv_fds(caller, 8, 3)
    told, left = b"", int.from_bytes(length, "big")
    while len(told) < left:
        told += caller.recv(left - len(told))
    order = json.loads(told)
    process = os.fork()
    if process:
        caller.sendall(b"%d\n" % process)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        caller.sendall(b"%d\n" % code)
        os._exit(0)
    caller.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as the interpreter itself opens them
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(order["environment"])
    time.tzset()
    os.umask(order["umask"])
    os.chdir(order["folder"])
    arguments: list[str] = order["arguments"]
    return arguments


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    given = _serve(sys.argv[1])
    from segue.sync.cli import main

    code = main(given)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code)
