"""Limits of memory and disk, slow readers, and files that are damaged or do not fit together."""

import pytest
from adbc_driver_flightsql import dbapi

from processes import hwacha, wait_until

MEBIBYTE = 1 << 20
WIDE = "select concat(repeat('x', 400), (value * 7919) % 1500007) as s from generate_series(1, 1500000)"


def shell(cluster, *arguments):
    return hwacha("sql", "--url", cluster.url, "--format", "csv", *arguments)


def refused(cluster, sql, *words):
    """Runs a statement that must fail with one line that contains these words. The cluster must stay alive."""
    done = shell(cluster, "-c", sql)
    assert done.returncode == 1 and done.stderr.startswith("error: "), done.stderr
    assert len(done.stderr.splitlines()) == 1 and "panicked" not in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert shell(cluster, "-c", "select 'alive' as state").stdout == "state\nalive\n"


def test_full_spill_disk(new_cluster):
    cluster = new_cluster(executors=1, executor_flags={"--memory-limit": "128MiB", "--spill-limit": "16MiB"})
    refused(cluster, f"select max(r) from (select row_number() over (order by s) as r from ({WIDE}) w) t", "--spill-limit")
    assert cluster.spilled_bytes() == 0


def test_memory_limit_that_cannot_be_met(new_cluster):
    cluster = new_cluster(executors=1, executor_flags={"--memory-limit": "32MiB"})
    refused(cluster, f"select length(string_agg(s, ',')) from ({WIDE}) w", "memory")


def test_slow_reader_of_a_huge_result(new_cluster):
    cluster = new_cluster(executors=1)
    wide = "select repeat('x', 1000) as s from generate_series(1, 20000) a cross join generate_series(1, 20000) b"
    with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(wide)
        assert cursor.fetchone() == ("x" * 1000,)
        # The result has 400 GB. The executor computes until its unread rows reach their limit, and then waits.
        before = [-1.0]

        def is_waiting():
            before.append(cluster.executors[0].cpu_seconds())
            return before[-1] == before[max(0, len(before) - 25)]

        wait_until(is_waiting, 60, "the executor waits for its reader")
        assert cluster.executors[0].memory_bytes() < 600 * MEBIBYTE
        assert cluster.scheduler.memory_bytes() < 400 * MEBIBYTE
        assert cluster.spilled_bytes() < 200 * MEBIBYTE
        for _ in range(100_000):
            cursor.fetchone()
    wait_until(lambda: cluster.spilled_bytes() == 0, 20, "the end of the canceled query's files")


def make_parquet(cluster, file, query):
    """Writes the rows of a query to one Parquet file."""
    done = shell(cluster, "-c", f"create table made as {query}")
    assert done.returncode == 0, done.stderr
    (made,) = (cluster.folder / "data").glob("**/*.parquet")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(made.read_bytes())
    assert shell(cluster, "-c", "drop table made").returncode == 0


@pytest.mark.parametrize("damage", ["truncated", "overwritten", "deleted"])
def test_file_that_is_no_longer_what_it_was(new_cluster, tmp_path, damage):
    cluster = new_cluster(executors=1)
    file = tmp_path / "files" / "numbers.parquet"
    make_parquet(cluster, file, "select value as n from generate_series(1, 100000)")
    sql = f"create external table t stored as parquet location '{tmp_path}/files/'"
    assert shell(cluster, "-c", sql, "-c", "select count(*) from t").returncode == 0
    content = file.read_bytes()
    if damage == "truncated":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "overwritten":
        file.write_bytes(b"not parquet at all " * 1000)
    else:
        file.unlink()
        (tmp_path / "files" / "other.parquet").write_bytes(content)
        assert shell(cluster, "-c", "select max(n) from t").stdout.splitlines()[1] == "100000"
        return
    refused(cluster, "select max(n) from t where n % 2 = 0", file.name)


def test_files_whose_schemas_disagree(new_cluster, tmp_path):
    cluster = new_cluster(executors=1)
    make_parquet(cluster, tmp_path / "files" / "numbers.parquet", "select value as n from generate_series(1, 10)")
    make_parquet(cluster, tmp_path / "files" / "words.parquet", "select 'a' as n")
    sql = f"create external table t stored as parquet location '{tmp_path}/files/'"
    refused(cluster, sql, 'the column "n"', "Int64 in", "numbers.parquet", "Utf8View in", "words.parquet")
    refused(cluster, f"select * from '{tmp_path}/files/*.parquet'", 'the column "n"', "words.parquet")


def test_text_that_is_not_of_its_columns_type(new_cluster, tmp_path):
    cluster = new_cluster(executors=1)
    (tmp_path / "points.csv").write_text("n\n1\n2\nthree\n")
    sql = f"create external table points (n int) stored as csv location '{tmp_path}/points.csv' options ('has_header' 'true')"
    assert shell(cluster, "-c", sql).returncode == 0
    refused(cluster, "select sum(n) from points", "points.csv", "three", "Int32")


def test_options_of_external_tables_survive_a_restart(new_cluster, tmp_path):
    cluster = new_cluster(executors=1)
    (tmp_path / "points.csv").write_text("1;one\n2;two\n")
    options = "options ('format.delimiter' ';', 'format.has_header' 'false')"
    sql = f"create external table points (n int, word varchar) stored as csv location '{tmp_path}/points.csv' {options}"
    assert shell(cluster, "-c", sql).returncode == 0
    for process in [*cluster.executors, cluster.scheduler]:
        process.stop()
    cluster.start_scheduler()
    cluster.start_executor()
    assert shell(cluster, "-c", "select n, word from points order by n").stdout == "n,word\n1,one\n2,two\n"
