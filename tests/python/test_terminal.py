"""The shell on a terminal: the prompt, statements of several lines, Ctrl-C, errors, history."""

import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from processes import BINARY, clean_environment, die_with_the_tests

SECONDS = 60


class Terminal:
    """A shell on a pseudo-terminal of this process."""

    def __init__(self, url, home):
        self.screen, terminal = pty.openpty()
        environment = {**clean_environment(), "TERM": "xterm", "XDG_STATE_HOME": str(home)}

        def own_terminal():
            die_with_the_tests()
            os.setsid()
            os.close(os.open(os.ttyname(0), os.O_RDWR))

        self.child = subprocess.Popen(
            [BINARY, "sql", "--url", url],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            env=environment,
            preexec_fn=own_terminal,
        )
        os.close(terminal)
        self.seen = ""

    def type(self, text):
        os.write(self.screen, text.encode())

    def expect(self, pattern):
        """Waits until the shell prints a pattern, and drops the output up to the end of the match."""
        deadline = time.monotonic() + SECONDS
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.screen], [], [], left)[0], f"no {pattern!r} in {self.seen!r}"
            self.seen += os.read(self.screen, 65536).decode(errors="replace")
        self.seen = self.seen[found.end() :]
        return found

    def close(self):
        if self.child.poll() is None:
            os.kill(self.child.pid, signal.SIGKILL)
        self.child.wait()
        os.close(self.screen)


@pytest.fixture
def terminal(cluster, tmp_path):
    terminal = Terminal(cluster.url, tmp_path)
    terminal.expect("hwacha> ")
    yield terminal
    terminal.close()


def test_statements_may_take_several_lines(terminal):
    terminal.type("select 40\r")
    terminal.type("  + 2 as answer;\r")
    terminal.expect(r"\| 42 ")
    terminal.expect(r"\(1 row, ")


def test_errors_and_bad_commands_do_not_end_the_shell(terminal):
    for line, answer in [
        ("select * from nowhere;", 'error: table "nowhere" does not exist'),
        ("\\o /nowhere/file", "error: cannot write /nowhere/file"),
        ("\\nonsense", "error: there is no command"),
        ("select 'still ' || 'here';", "still here"),
    ]:
        terminal.type(line + "\r")
        terminal.expect(re.escape(answer))
        terminal.expect("hwacha> ")


def test_interrupt_cancels_the_query_and_not_the_shell(terminal):
    terminal.type("select count(*) from generate_series(1, 3000000) a join generate_series(1, 3000000) b on a.value < b.value;\r")
    terminal.expect("stages?")
    terminal.type("\x03")
    terminal.expect("canceled")
    terminal.expect("hwacha> ")
    terminal.type("select 'still ' || 'here';\r")
    terminal.expect("still here")


def test_the_end_of_input_leaves(terminal):
    terminal.type("\x04")
    assert terminal.child.wait(SECONDS) == 0


def test_history_is_kept(terminal, cluster, tmp_path):
    terminal.type("select 12345 as kept;\r")
    terminal.expect("hwacha> ")
    terminal.type("\x04")
    assert terminal.child.wait(SECONDS) == 0
    again = Terminal(cluster.url, tmp_path)
    try:
        again.expect("hwacha> ")
        again.type("\x10\r")
        again.expect(r"\| 12345 ")
    finally:
        again.close()
