"""Servers that `cargo xtask test` has installed: where they are, and their processes."""

import os
import pathlib
import subprocess
import tempfile
import threading

from processes import BINARY, die_with_the_tests, wait_until

# The folder in which `cargo xtask test` installs servers: beside the binary, unless the variable names another.
FOLDER = pathlib.Path(os.environ.get("HWACHA_TEST_SERVERS") or pathlib.Path(BINARY).with_name("test-servers"))
READY_SECONDS = 120


def installed(*parts):
    """The path of an installed file."""
    path = FOLDER.joinpath(*parts)
    assert path.exists(), f"{path} is missing; `cargo xtask test python` installs it, or HWACHA_TEST_SERVERS names its folder"
    return str(path)


class Server:
    """A server's process. `ready` is the match of the line in which the server tells its address."""

    def __init__(self, command, line):
        self.line = line
        self.ready = None
        self.log = tempfile.TemporaryFile()
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            preexec_fn=die_with_the_tests,
        )
        self.answers = []
        threading.Thread(target=self._read, daemon=True).start()
        try:
            wait_until(lambda: self.ready or self.child.poll() is not None, READY_SECONDS, f"the start of {command[0]}")
            assert self.ready, f"{command} has ended with {self.child.returncode}: {self.logged()}"
        except AssertionError:
            self.stop()
            raise

    def _read(self):
        for line in self.child.stdout:
            self.answers.append(line.strip())
            self.ready = self.ready or self.line.search(line)

    def logged(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-4000:]

    def ask(self, line, seconds=60):
        """Sends a line and waits for the line that answers it."""
        before = len(self.answers)
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        answered = lambda: len(self.answers) > before or self.child.poll() is not None
        wait_until(answered, seconds, f"the answer to {line!r}")
        assert len(self.answers) > before, self.logged()
        return self.answers[before]

    def stop(self):
        """Ends the process, by its id."""
        self.child.kill()
        self.child.wait()
