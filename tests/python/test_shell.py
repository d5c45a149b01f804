"""The `hwacha` binary on the command line: inputs and formats of the shell, exit statuses, messages."""

import json
import socket
import time

import pytest

from processes import Process, hwacha

TABLE = "select * from (values (1, 'one'), (2, null)) t(n, s) order by n"


def shell(cluster, *arguments, **options):
    return hwacha("sql", "--url", cluster.url, *arguments, **options)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_version_and_help():
    assert "0." in hwacha("version").stdout
    for arguments in [("--help",), ("sql", "--help"), ("scheduler", "--help"), ("executor", "--help")]:
        shown = hwacha(*arguments)
        assert shown.returncode == 0
        assert "Usage" in shown.stdout
    assert "--data-dir" in hwacha("scheduler", "--help").stdout


def test_embedded_cluster():
    done = hwacha("sql", "-c", "select 6 * 7 as answer")
    assert done.returncode == 0, done.stderr
    assert "answer" in done.stdout and "42" in done.stdout


def test_remote_cluster(cluster):
    done = shell(cluster, "-c", "select 6 * 7 as answer")
    assert done.returncode == 0, done.stderr
    assert "answer" in done.stdout and "42" in done.stdout


def test_csv_and_tsv(cluster):
    assert shell(cluster, "--format", "csv", "-c", TABLE).stdout.splitlines() == ["n,s", "1,one", "2,"]
    assert shell(cluster, "--format", "tsv", "-c", TABLE).stdout.splitlines() == ["n\ts", "1\tone", "2\t"]


def test_json_and_ndjson(cluster):
    rows = json.loads(shell(cluster, "--format", "json", "-c", TABLE).stdout)
    assert [(row["n"], row.get("s")) for row in rows] == [(1, "one"), (2, None)]
    lines = [json.loads(line) for line in shell(cluster, "--format", "ndjson", "-c", TABLE).stdout.splitlines()]
    assert [(row["n"], row.get("s")) for row in lines] == [(1, "one"), (2, None)]


def test_table_vertical_and_none(cluster):
    table = shell(cluster, "--format", "table", "-c", TABLE).stdout
    assert all(word in table for word in ["n", "s", "one", "|"])
    vertical = shell(cluster, "--format", "vertical", "-c", TABLE).stdout
    assert "one" in vertical and len(vertical.splitlines()) >= 4
    assert shell(cluster, "--format", "none", "-c", TABLE).stdout.strip() == ""


def test_several_statements(cluster, name):
    script = f"create view {name} as select 5 as n; select n * 2 as twice from {name};\nselect ';' as semicolon"
    done = shell(cluster, "--format", "csv", "-c", script)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.split()
    assert printed[-4:] == ["twice", "10", "semicolon", ";"]


def test_file(cluster, tmp_path):
    script = tmp_path / "script.sql"
    script.write_text("-- a comment\nselect 1 as a;\n\nselect 2 as b\n;\n")
    done = shell(cluster, "--format", "csv", "-f", str(script))
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["a", "1", "b", "2"]
    missing = shell(cluster, "-f", str(tmp_path / "missing.sql"))
    assert missing.returncode != 0 and "missing.sql" in missing.stderr


def test_standard_input(cluster):
    done = shell(cluster, "--format", "csv", stdin="select 1 as a;\nselect\n  2 as b;\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["a", "1", "b", "2"]


def test_failing_statements_give_a_failing_exit(cluster, tmp_path):
    done = shell(cluster, "-c", "select nothing_like_it")
    assert done.returncode != 0
    assert "nothing_like_it" in done.stderr and "panicked" not in done.stderr
    script = tmp_path / "script.sql"
    script.write_text("select 1; select broken from nowhere; select 2")
    assert shell(cluster, "-f", str(script)).returncode != 0
    assert shell(cluster, "-c", "selec 1").returncode != 0
    assert hwacha("sql", "-c", "select 1 / 0").returncode != 0


def test_unknown_names_come_with_a_suggestion(cluster, name):
    shell(cluster, "-c", f"create view {name}_customers as select 1 as customer_key")
    table = shell(cluster, "-c", f"select * from {name}_custmers")
    assert f"{name}_customers" in table.stderr
    column = shell(cluster, "-c", f"select custmer_key from {name}_customers")
    assert "customer_key" in column.stderr.replace("custmer_key", "")


def test_commands(cluster, name, tmp_path):
    shown = shell(cluster, stdin="\\?\n")
    assert shown.returncode == 0, shown.stderr
    assert all(command in shown.stdout for command in ["\\d", "\\timing", "\\format", "\\o"])
    shell(cluster, "-c", f"create table {name} as select 1 as id, 'x' as label")
    assert name in shell(cluster, stdin="\\d\n").stdout
    described = shell(cluster, stdin=f"\\d {name}\n").stdout
    assert "id" in described and "label" in described
    out = tmp_path / "out.csv"
    shell(cluster, stdin=f"\\format csv\n\\o {out}\nselect 7 as n;\n\\o\n")
    assert out.read_text().split() == ["n", "7"]


def test_explain_shows_stages(cluster):
    done = shell(cluster, "-c", "explain select count(*) from generate_series(1, 10)")
    assert done.returncode == 0, done.stderr
    assert "stage" in done.stdout.lower()
    analyzed = shell(cluster, "-c", "explain analyze select count(*) from generate_series(1, 10)")
    assert analyzed.returncode == 0, analyzed.stderr
    assert "rows" in analyzed.stdout.lower()


def test_scheduler_that_is_not_there():
    port = free_port()
    start = time.monotonic()
    done = hwacha("sql", "--url", f"grpc://127.0.0.1:{port}", "-c", "select 1")
    assert time.monotonic() - start < 15
    assert done.returncode != 0
    assert f"127.0.0.1:{port}" in done.stderr and "panicked" not in done.stderr


def test_host_that_does_not_exist():
    done = hwacha("sql", "--url", "grpc://no-such-host.invalid:50050", "-c", "select 1", seconds=60)
    assert done.returncode != 0
    assert "no-such-host.invalid" in done.stderr


def test_port_in_use(cluster, tmp_path):
    address = cluster.scheduler.address
    done = hwacha("scheduler", "--listen", address, "--data-dir", str(tmp_path))
    assert done.returncode != 0
    assert address in done.stderr and "panicked" not in done.stderr


@pytest.mark.parametrize("command", ["sql", "scheduler", "executor", "demo"])
def test_unknown_flag(command):
    done = hwacha(command, "--no-such-flag")
    assert done.returncode == 2
    assert "--no-such-flag" in done.stderr


@pytest.mark.parametrize("command", ["scheduler", "executor"])
def test_unknown_key_in_the_configuration(command, tmp_path):
    config = tmp_path / "hwacha.toml"
    config.write_text("no_such_key = 1\n")
    done = hwacha(command, "--config", str(config))
    assert done.returncode != 0
    assert "no_such_key" in done.stderr and "panicked" not in done.stderr


def test_values_that_cannot_be(tmp_path):
    assert hwacha("scheduler", "--listen", "nonsense", "--data-dir", str(tmp_path)).returncode != 0
    executor = hwacha("executor", "--scheduler", "http://127.0.0.1:1", "--memory-limit", "lots")
    assert executor.returncode != 0 and "lots" in executor.stderr


def test_flags_come_before_the_file(tmp_path):
    busy, data = free_port(), tmp_path / "data"
    config = tmp_path / "hwacha.toml"
    config.write_text(f'listen = "127.0.0.1:{busy}"\n')
    scheduler = Process("scheduler", "--config", str(config), "--listen", "127.0.0.1:0", "--data-dir", str(data))
    try:
        assert scheduler.address != f"127.0.0.1:{busy}"
    finally:
        scheduler.kill()


def test_files_are_queried_by_their_names(tmp_path):
    table = tmp_path / "people.csv"
    table.write_text("id,name\n1,Ann\n2,Bob\n")
    done = hwacha("sql", "--format", "csv", "-c", f"select name from '{table}' where id = 2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["name", "Bob"]
    broken = tmp_path / "broken.parquet"
    broken.write_text("no Parquet at all")
    done = hwacha("sql", "-c", f"select * from '{broken}'")
    assert done.returncode != 0 and "broken.parquet" in done.stderr
