"""What the shell answers: rows, or one sentence."""

from processes import hwacha


def commands(statements):
    return [part for statement in statements for part in ("-c", statement)]


def shell(cluster, *statements, **limits):
    """The statements on a cluster. `seconds` limits their time."""
    return hwacha("sql", "--url", cluster.url, "--format", "csv", "--quiet", *commands(statements), **limits)


def embedded(config, *statements, **limits):
    """The statements on the shell's own cluster. `environment` has its variables, `seconds` limits its time."""
    return hwacha("sql", "--config", str(config), "--format", "csv", "--quiet", *commands(statements), **limits)


def rows_of(done):
    """The rows of the only statement that has any."""
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


def rows(cluster, *statements, **limits):
    return rows_of(shell(cluster, *statements, **limits))


def refused(done, *words):
    """Checks that a statement has ended with one sentence that has these words."""
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
