"""Real processes of the `hwacha` binary: start one, wait until it is ready, end it by its own id."""

import ctypes
import itertools
import os
import re
import signal
import subprocess
import tempfile
import threading
import time

BINARY = os.environ.get("HWACHA_BIN", "hwacha")
READY_SECONDS = 60
STOP_SECONDS = 20


LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


def die_with_the_tests():
    """Asks the kernel to kill this process when the tests end, even if they are killed."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until(condition, seconds, what):
    """Waits until a condition holds. Fails after some seconds with an error that names `what`."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        pause.wait(0.02)


def clean_environment():
    """The environment without the variables `HWACHA_*`, which would change the binary's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HWACHA_")}


class Process:
    """A running process of the binary. `address` is the address in its `ready` line."""

    def __init__(self, *arguments):
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            [BINARY, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env=clean_environment(),
            preexec_fn=die_with_the_tests,
        )
        self.address = None
        self.printed = []
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        try:
            wait_until(lambda: self.address or self.child.poll() is not None, READY_SECONDS, "ready")
        except AssertionError:
            self.kill()
            raise
        assert self.address, f"{arguments} ended with {self.child.returncode} before it was ready:\n{self.logged()}"

    def _read(self):
        for line in self.child.stdout:
            self.printed.append(line)
            found = re.search(r"\bready\b.*?(\d+\.\d+\.\d+\.\d+:\d+)", line)
            if found and self.address is None:
                self.address = found[1]

    def logged(self):
        """The standard output of the process, and the last 4,000 characters of its standard error."""
        self.log.seek(0)
        return "".join(self.printed) + self.log.read().decode(errors="replace")[-4000:]

    def cpu_seconds(self):
        """The CPU time of the process so far. It shows which executors work on a query."""
        with open(f"/proc/{self.child.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self):
        """The resident memory of the process now."""
        with open(f"/proc/{self.child.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def running(self):
        return self.child.poll() is None

    def stop(self):
        """Asks the process to end, and returns its exit status. If it does not end, kills it and fails."""
        if self.running():
            os.kill(self.child.pid, signal.SIGTERM)
        try:
            return self.child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self):
        """Kills the process (SIGKILL)."""
        if self.running():
            os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()


class Cluster:
    """A scheduler and its executors on free ports of the loopback interface, with their directories in one folder."""

    def __init__(self, folder, executors=2, scheduler_flags=(), executor_flags=None, allowed="/"):
        self.folder = folder
        self.scheduler_flags = scheduler_flags
        self.allowed = allowed
        self.executor_flags = {"--cores": "1", "--memory-limit": "512MiB", **(executor_flags or {})}
        self.executors = []
        self.scheduler = None
        self.start_scheduler()
        for _ in range(executors):
            self.start_executor()

    def start_scheduler(self):
        data = self.folder / "data"
        flags = {"--listen": "127.0.0.1:0", "--data-dir": str(data), "--allow-location": self.allowed}
        self.scheduler = Process("scheduler", *itertools.chain(*flags.items()), *self.scheduler_flags)

    def start_executor(self):
        spill = self.folder / f"spill-{len(self.executors)}"
        flags = {"--scheduler": f"http://{self.scheduler.address}", "--listen": "127.0.0.1:0", "--spill-dir": str(spill)}
        flags |= self.executor_flags
        self.executors.append(Process("executor", *itertools.chain.from_iterable(flags.items())))

    def spilled_bytes(self):
        """The bytes of the spill files of all executors now."""
        sizes = []
        for path in self.folder.glob("spill-*/**/*"):
            try:
                sizes.append(path.stat().st_size if path.is_file() else 0)
            except FileNotFoundError:
                pass
        return sum(sizes)

    @property
    def url(self):
        return f"grpc://{self.scheduler.address}"

    def stop(self):
        for process in [*self.executors, self.scheduler]:
            process.kill()


def hwacha(*arguments, stdin="", seconds=120, environment=None):
    """Runs the binary until it ends. `environment` has variables that are set besides."""
    variables = {**clean_environment(), **(environment or {})}
    return subprocess.run(
        [BINARY, *arguments], input=stdin, capture_output=True, text=True, timeout=seconds, env=variables
    )
