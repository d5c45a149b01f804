"""Attacks on a cluster. Each gets an answer or an error of one sentence, and other sessions still get answers."""

import collections
import contextlib
import itertools
import os
import re
import resource
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from adbc_driver_flightsql import DatabaseOptions, dbapi
from pyarrow import flight as arrow_flight
from pyarrow import parquet

import processes
from flight import client, statement
from processes import BINARY, Cluster, wait_until

MEBIBYTE = 1 << 20
MOST = 2**63 - 1
INNOCENT = "select sum(v) from (values (1), (2)) t(v)"
OPTIONS = (DatabaseOptions.TIMEOUT_FETCH, DatabaseOptions.TIMEOUT_QUERY, DatabaseOptions.TIMEOUT_UPDATE)


def run(cluster, sql, seconds=60):
    options = {option.value: str(seconds) for option in OPTIONS}
    with dbapi.connect(cluster.url, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def refusal(cluster, sql, status, *words, seconds=60):
    """Runs a statement that must fail with this status and these words."""
    with pytest.raises(dbapi.Error) as failure:
        run(cluster, sql, seconds)
    check_sentence(str(failure.value), status, *words)


def check_sentence(text, status, *words):
    assert f"({status};" in text, text[:1000]
    # The driver puts the status before `[FlightSQL]`, and INTERNAL for a status that it does not know.
    sentence = text.split("[FlightSQL]", 1)[1]
    assert "panic" not in sentence and "internal" not in sentence.lower(), text[:1000]
    for word in words:
        assert word in sentence, text[:1000]


def check_alive(cluster):
    """Checks that all processes run without a panic and answer another session within 10 s."""
    assert run(cluster, INNOCENT, seconds=10) == [(3,)]
    for process in [cluster.scheduler, *cluster.executors]:
        assert process.running() and "panicked" not in process.logged(), process.logged()


def start_peak(process):
    """Resets the peak memory of a process that the kernel reports (VmHWM)."""
    with open(f"/proc/{process.child.pid}/clear_refs", "w") as file:
        file.write("5")


def peak_bytes(process):
    with open(f"/proc/{process.child.pid}/status") as file:
        return int(re.search(r"VmHWM:\s*(\d+) kB", file.read())[1]) << 10


def wait_idle(cluster, seconds=10):
    """Waits until all executors together use less than 0.1 s of CPU time in half a second."""

    def is_idle():
        before = [executor.cpu_seconds() for executor in cluster.executors]
        threading.Event().wait(0.5)
        return sum(e.cpu_seconds() - start for e, start in zip(cluster.executors, before)) < 0.1

    wait_until(is_idle, seconds, "the end of the executors' work")


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """A cluster that attacks share. Each test shows that it has survived the attacks before."""
    cluster = Cluster(tmp_path_factory.mktemp("attacked"))
    yield cluster
    cluster.stop()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A cluster with 256 MiB for each executor."""
    cluster = Cluster(tmp_path_factory.mktemp("small"), executor_flags={"--memory-limit": "256MiB"})
    yield cluster
    cluster.stop()


# The data directory.


def files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_foreign_files_in_the_data_directory_stay(new_cluster, tmp_path):
    tables = tmp_path / "cluster-0" / "data" / "tables"
    foreign = {"mine/precious.parquet": b"PAR1", "notes.txt": b"notes", "c645c248-3cea-46b0-bf73-61dd72c14986/a": b"a"}
    cluster = new_cluster(executors=0)
    cluster.stop()
    for name, content in foreign.items():
        (tables / name).parent.mkdir(parents=True, exist_ok=True)
        (tables / name).write_bytes(content)
    cluster.start_scheduler()
    cluster.start_executor()
    run(cluster, "create table t as select 1 as n")
    run(cluster, "drop table t")
    check_alive(cluster)
    assert {str(name): content for name, content in files(tables).items()} == foreign


@pytest.mark.parametrize("content", ["", "garbage", "-1", "99999999999999999999999"])
def test_damaged_epoch(new_cluster, content):
    cluster = new_cluster(executors=1)
    run(cluster, "create table t as select 1 as n")
    cluster.stop()
    data = cluster.folder / "data"
    (data / "state" / "epoch").write_text(content)
    before = files(data)
    with pytest.raises(AssertionError, match="state/epoch does not contain a valid start count of the scheduler"):
        cluster.start_scheduler()
    assert files(data) == before


def test_damaged_record_and_stray_files(new_cluster):
    cluster = new_cluster(executors=1)
    for name in ["whole", "damaged"]:
        run(cluster, f"create table {name} as select 1 as n")
    cluster.stop()
    data = cluster.folder / "data"
    for folder in [data, *(path for path in data.rglob("*") if path.is_dir() and path.name != "catalog")]:
        (folder / "stray.txt").write_text("stray")
    (data / "state" / "catalog" / "damaged").write_text('{"kind')
    before = files(data / "tables")
    cluster.executors.clear()
    cluster.start_scheduler()
    cluster.start_executor()
    assert run(cluster, "select n from whole") == [(1,)]
    refusal(cluster, "select n from damaged", "InvalidArgument", f"{data}/state/catalog/damaged", "damaged")
    assert files(data / "tables") == before
    check_alive(cluster)


# Statements that need too much time or memory.

TOO_LONG = [
    "length(repeat('x', 1000000000))",
    "length(lpad('x', 1000000000))",
    "length(rpad('x', 1500000000, 'ab'))",
    "length(repeat(repeat('x', 100000), 100000))",
    "length(replace(repeat('x', 10000000), 'x', repeat('y', 10000)))",
    "range(0, 1000000000000)",
    "array_length(generate_series(0, 1000000000))",
    "array_length(range(timestamp '2000-01-01', timestamp '2030-01-01', interval '1 nanosecond'))",
    "array_repeat(1, 1000000000)",
    "cardinality(array_repeat(array_repeat(1, 100000), 100000))",
    "array_length(array_resize([1], 1000000000, 1))",
]


@pytest.mark.parametrize("expression", TOO_LONG)
def test_constants_that_are_too_long(attacked, expression):
    start_peak(attacked.scheduler)
    before = attacked.scheduler.memory_bytes()
    refusal(attacked, f"select {expression}", "InvalidArgument", "bytes in one row; the limit is", seconds=10)
    assert peak_bytes(attacked.scheduler) < before + 400 * MEBIBYTE
    check_alive(attacked)


def test_long_constants_in_every_row(attacked):
    texts = "select repeat('x', 1000000) as s, v from generate_series(1, 20000) t(v)"
    assert run(attacked, f"select max(length(s)) from ({texts}) where v > 3") == [(1_000_000,)]
    lists = "select unnest(range(0, 2000000)) as a from generate_series(1, 8)"
    assert run(attacked, f"select max(a) from ({lists})") == [(1_999_999,)]
    check_alive(attacked)


def test_views_that_double(attacked):
    run(attacked, "create view doubled_0 as select 1 as v")
    double = "create view doubled_{} as select a.v from doubled_{} a join doubled_{} b on a.v = b.v"
    with pytest.raises(dbapi.Error) as failure:
        for level in range(1, 27):
            run(attacked, double.format(level, level - 1, level - 1))
    check_sentence(str(failure.value), "InvalidArgument", "nodes after its views", "the limit is 50000")
    assert level > 8
    for past in range(level):
        run(attacked, f"drop view doubled_{past}")
    check_alive(attacked)


DOUBLED = [
    (14, "select a.v from {0} a join {0} b on a.v = b.v", "nodes after its views"),
    (26, "select a.v from {0} a join {0} b on a.v = b.v", "20000 tables"),
    (26, "select * from {0} union all select * from {0}", "20000 tables"),
]


@pytest.mark.parametrize(("levels", "query", "word"), DOUBLED)
def test_common_table_expressions_that_double(attacked, levels, query, word):
    doubled = ", ".join(f"c{level} as ({query.format(f'c{level - 1}')})" for level in range(1, levels + 1))
    sql = f"with c0 as (select 1 as v), {doubled} select count(*) from c{levels}"
    refusal(attacked, sql, "InvalidArgument", word, seconds=15)
    check_alive(attacked)


def test_cube_of_25_columns(attacked):
    names = ", ".join(f"c{column}" for column in range(25))
    values = ", ".join(map(str, range(25)))
    sql = f"select count(*) from (values ({values})) t({names}) group by cube({names})"
    refusal(attacked, sql, "InvalidArgument", "4096 grouping sets", seconds=15)
    check_alive(attacked)


def test_long_in_list(attacked):
    sql = f"select count(*) from generate_series(1, 10) t(v) where v in ({','.join(map(str, range(1_400_000)))})"
    refusal(attacked, sql, "InvalidArgument", "1400000 values", seconds=30)
    check_alive(attacked)


def test_cross_joined_catalog_tables(attacked):
    run(attacked, f"create table wide as select {', '.join(f'{i} as c{i}' for i in range(200))}")
    four = ", ".join(f"information_schema.columns {name}" for name in "abcd")
    place = "{}.ordinal_position".format
    where = f"{place('a')} + {place('b')} + {place('c')} = 7 * {place('d')}"
    sums = collections.Counter(map(sum, itertools.product(range(200), repeat=2)))
    found = sum(n * (7 * d - s in range(200)) for s, n in sums.items() for d in range(200))
    with ThreadPoolExecutor(4) as pool:
        attacks = [pool.submit(run, attacked, f"select count(*) from {four} where {where} -- {i}") for i in range(4)]
        for _ in range(5):
            check_alive(attacked)
        for attack in attacks:
            # The query may need more memory than the limits allow.
            try:
                assert attack.result() == [(found,)]
            except dbapi.Error as error:
                check_sentence(str(error), "ResourceExhausted", "out of memory")
    run(attacked, "drop table wide")
    check_alive(attacked)


# Each byte opens a group of the unknown field 5 within the group before it.
NESTED = b"\x2b" * 3_000_000


@pytest.mark.parametrize("call", [
    lambda connection: connection.get_flight_info(arrow_flight.FlightDescriptor.for_command(NESTED)),
    lambda connection: connection.do_get(arrow_flight.Ticket(NESTED)).read_all(),
    lambda connection: list(connection.do_action(arrow_flight.Action("CreatePreparedStatement", NESTED))),
])
def test_messages_of_many_levels(attacked, call):
    with client(attacked) as connection, pytest.raises(pa.ArrowInvalid, match="RecursionLimit"):
        call(connection)
    check_alive(attacked)


def chain(joins):
    tables = " ".join(f"join (values (1)) t{i}(a) on t0.a = t{i}.a" for i in range(1, joins + 1))
    return f"select count(*) from (values (1)) t0(a) {tables}"


@pytest.mark.parametrize("joins", [60, 150, 1000])
def test_many_joins(attacked, joins):
    assert run(attacked, chain(joins)) == [(1,)]
    check_alive(attacked)


def test_many_cross_joins(small):
    tables = ", ".join(f"(values (1), (2)) t{i}(a)" for i in range(40))
    assert run(small, f"select count(*) from {tables}") == [(2**40,)]
    check_alive(small)


@pytest.mark.parametrize(("length", "answer"), [(15_000_000, [(15_000_000,)]), (100_000_000, None)])
def test_long_text(attacked, length, answer):
    sql = f"select length('{'x' * length}')"
    if answer is None:
        refusal(attacked, sql, "ResourceExhausted", "larger than max")
    else:
        assert run(attacked, sql) == answer
    check_alive(attacked)


ABSURD = [
    (f"approx_percentile_cont(v, 0.5, {MOST})", "centroids; the limit is"),
    (f"sum(v + {MOST} - 1)", "verflow"),
    (f"sum(v + {MOST - 3})", "a sum does not fit into Int64"),
    ("sum(v) over (order by v rows between 18446744073709551615 preceding and current row)", "too large"),
    (f"date_bin(interval '0 days', timestamp '2000-01-01' + interval '{MOST} days')", "days"),
    (f"{MOST} + 1", "verflow"),
    (f"(-{MOST} - 1) / -1", "verflow"),
    (f"abs(-{MOST} - 1)", "overflow"),
    ("1 % (v - v)", "Divide by zero"),
    (f"chr({MOST})", "Unicode"),
    (f"round(1.5, {MOST})", "range"),
    ("factorial(100)", "verflow"),
    (f"substr('abc', -{MOST} - 1, {MOST})", "overflow"),
    ("make_date(2147483647, 12, 31)", "2147483647"),
]


@pytest.mark.parametrize(("expression", "word"), ABSURD)
def test_absurd_arguments(attacked, expression, word):
    refusal(attacked, f"select {expression} from (values (1), (2), (3)) t(v)", "InvalidArgument", word, seconds=10)
    check_alive(attacked)


def test_arguments_at_the_end_of_integers(attacked):
    frames = [f"{kind} between {MOST} preceding and {MOST} following" for kind in ("rows", "range", "groups")]
    for frame in frames:
        assert run(attacked, f"select sum(v) over (order by v {frame}) from (values (1), (2)) t(v)") == [(3,), (3,)]
    far = f"select lag(v, {MOST}) over (order by v), nth_value(v, {MOST}) over (order by v) from (values (1), (2)) t(v)"
    assert run(attacked, far) == [(None, None)] * 2
    assert run(attacked, f"select count(*) from generate_series({MOST} - 1, {MOST})") == [(2,)]
    assert run(attacked, f"select v from generate_series(1, 3) t(v) limit {MOST} offset {MOST}") == []
    check_alive(attacked)


@pytest.mark.parametrize(
    ("sql", "status", "word"),
    [
        (f"create table {'t' * 300} as select 1 as n", "InvalidArgument", "the table or view has 300 bytes"),
        (f"create view \"{'v' * 256}\" as select 1 as n", "InvalidArgument", "the table or view has 256 bytes"),
        (f"select n from \"{'t' * 300_000}\"", "NotFound", "tttt"),
        (f"select {'c' * 200_000} from (values (1)) t(v)", "InvalidArgument", "cccc"),
        (f"select {'f' * 60_000}(1)", "InvalidArgument", "ffff"),
        ("select cast(repeat('q', v * 20000) as int) from generate_series(1, 10) t(v)", "InvalidArgument", "qqqq"),
    ],
    ids=["table", "view", "unknown-table", "unknown-column", "unknown-function", "value"],
)
def test_long_names_and_values_in_errors(attacked, sql, status, word):
    refusal(attacked, sql, status, word, seconds=10)
    check_alive(attacked)


def test_rows_larger_than_a_message(attacked):
    for sql in [
        "select repeat('x', 268435455) as s",
        "select repeat('x', 130000000) as a, repeat('y', 130000000) as b, repeat('z', 130000000) as c",
        "select repeat(s, 200000000) as s from (values ('x')) t(s)",
    ]:
        start = time.monotonic()
        refusal(attacked, sql, "ResourceExhausted")
        assert time.monotonic() - start < 15
        check_alive(attacked)


def test_views_without_their_tables(attacked):
    run(attacked, "create table base as select 1 as n")
    run(attacked, "create view broken as select n from base")
    run(attacked, "create view fine as select 2 as m")
    run(attacked, "drop table base")
    refusal(attacked, "select n from broken", "InvalidArgument", 'view "broken" cannot be opened', "base")
    assert run(attacked, "select m from fine") == [(2,)]
    named = run(attacked, "select table_name from information_schema.tables where table_name in ('broken', 'fine')")
    assert sorted(named) == [("broken",), ("fine",)]
    named = run(attacked, "select column_name from information_schema.columns where table_name in ('broken', 'fine')")
    assert named == [("m",)]
    run(attacked, "drop view broken")
    run(attacked, "create or replace view circle as select m from fine")
    run(attacked, "create view around as select m from circle")
    run(attacked, "create or replace view circle as select m from around")
    refusal(attacked, "select m from circle", "InvalidArgument", "circle", seconds=10)
    for view in ["around", "circle", "fine"]:
        run(attacked, f"drop view {view}")
    check_alive(attacked)


# Memory.

HUNGRY = {
    "like": "select count(*) from (select repeat(concat(v, 'ab'), 25000) as s from generate_series(1, 1500) t(v))"
    " where s like '%a%b%'",
    "array-agg": "select array_length(array_agg(distinct v)) from generate_series(1, 2000000) t(v)",
    "unnest": "select count(*) from (select unnest(range(0, 30000)) from generate_series(1, 500))",
    "unnest-twice": "select count(a) from (select unnest(range(0, 2000)) as a from (select unnest(range(0, 2000)) as b"
    " from generate_series(1, 10)))",
    "count-distinct": "select count(distinct v), count(distinct v * 7 % 1000003) from generate_series(1, 3000000) t(v)",
    "window": "select max(length(r)) from (select lag(s) over (order by s) as r from"
    " (select concat(repeat('x', 200), v) as s from generate_series(1, 1000000) t(v)))",
}
FED = {
    "like": [(1500,)],
    "array-agg": [(2_000_000,)],
    "unnest": [(15_000_000,)],
    "unnest-twice": [(40_000_000,)],
    "count-distinct": [(3_000_000, 1_000_003)],
    "window": [(207,)],
}


@pytest.mark.parametrize("name", HUNGRY)
def test_hungry_statements(small, name):
    for executor in small.executors:
        start_peak(executor)
    try:
        assert run(small, HUNGRY[name]) == FED[name]
    except dbapi.Error as error:
        check_sentence(str(error), "ResourceExhausted", "--memory-limit")
    over = max(map(peak_bytes, small.executors)) / (256 * MEBIBYTE)
    print(f"attack: peak over limit {name} {over:.2f}")
    assert over < 1.5
    check_alive(small)


# Clients.

SLOW = {
    "join-without-matches": "select count(*) from generate_series(1, 2000000) a(v), generate_series(1, 2000000) b(v)"
    " where a.v + b.v < 0",
    "function": "select count(*) from generate_series(1, 100000000) t(v) where md5(cast(v as varchar)) like '%zz%'",
    "sort": "select max(r) from (select row_number() over (order by md5(cast(v as varchar))) as r"
    " from generate_series(1, 5000000) t(v))",
    "join": "select count(*) from generate_series(1, 300000) a(v), generate_series(1, 300000) b(v) where a.v % 7 = b.v % 5",
}


def work(cluster):
    """The CPU time of the executors so far."""
    return sum(executor.cpu_seconds() for executor in cluster.executors)


@pytest.mark.parametrize("end", ["killed", "canceled"])
@pytest.mark.parametrize("name", SLOW)
def test_clients_that_go(attacked, name, end):
    before = work(attacked)

    def works():
        return work(attacked) > before + 0.5

    if end == "killed":
        gone = subprocess.Popen(
            [BINARY, "sql", "--url", attacked.url, "-c", SLOW[name]],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        wait_until(works, 20, "work")
        gone.kill()
        gone.wait()
    else:
        with dbapi.connect(attacked.url, autocommit=True) as connection, connection.cursor() as cursor:
            with ThreadPoolExecutor(1) as pool:
                execution = pool.submit(lambda: (cursor.execute(SLOW[name]), cursor.fetchall()))
                wait_until(works, 20, "work")
                cursor.adbc_cancel()
                with pytest.raises(dbapi.Error, match="(?i)cancel"):
                    execution.result(20)
    wait_idle(attacked)
    check_alive(attacked)


def test_tables_that_are_made_at_once(attacked):
    def make(name, number):
        try:
            run(attacked, f"create table {name} as select {number} as n, v from generate_series(1, 300000) t(v)")
        except dbapi.Error as error:
            return str(error)
        return None

    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(make, ["race"] * 2, range(2)))
        (error,) = filter(None, made)
        check_sentence(error, "InvalidArgument", 'table "race" already exists')
        winner = made.index(None)
        assert run(attacked, "select min(n), max(n), count(*) from race") == [(winner, winner, 300_000)]
        assert list(pool.map(make, [f"race_{i}" for i in range(6)], range(6))) == [None] * 6
        for i in range(6):
            assert run(attacked, f"select min(n), max(n), count(*) from race_{i}") == [(i, i, 300_000)]
        read = "select count(*), sum(length(md5(cast(a.v as varchar)))) from race_0 a join race_1 b on a.v = b.v"
        reading = pool.submit(run, attacked, read)
        run(attacked, "drop table race_0")
        try:
            assert reading.result(60) == [(300_000, 9_600_000)]
        except dbapi.Error as error:
            assert "race_0" in str(error) or ".parquet" in str(error), error
    refusal(attacked, "select n from race_0", "NotFound", '"race_0" does not exist')
    for name in ["race", *(f"race_{i}" for i in range(1, 6))]:
        run(attacked, f"drop table {name}")
    check_alive(attacked)


def test_a_function_that_takes_long_over_one_batch(new_cluster):
    """A query that is canceled within a batch frees the only core within seconds."""
    cluster = new_cluster(executors=1, executor_flags={"--cores": "1"})
    distances = (
        "select max(levenshtein(concat(repeat('ab', 4000), v), concat(repeat('ba', 4000), v)))"
        " from generate_series(1, 8000) t(v)"
    )
    with pytest.raises(dbapi.Error, match="(?i)timeout|deadline|cancel"):
        run(cluster, distances, seconds=3)
    check_alive(cluster)
    wait_idle(cluster)
    # One row cannot be divided, so texts that are too long are refused.
    refusal(
        cluster,
        "select levenshtein(repeat('a', 100000), repeat('b', 100000))",
        "InvalidArgument",
        "the arguments of levenshtein are too long",
    )


def test_spill_files_that_are_damaged(new_cluster):
    """Bits that flip on disk never change a sum: the task runs again, or the statement fails."""
    cluster = new_cluster(executors=2, executor_flags={"--memory-limit": "256MiB"})
    stop, flipped = threading.Event(), collections.Counter()

    def flip():
        while not stop.wait(0.01):
            for path in cluster.folder.glob("spill-*/**/datafusion-*/*"):
                with contextlib.suppress(OSError), open(path, "r+b") as file:
                    size = file.seek(0, os.SEEK_END)
                    if size > 100_000 and flipped[path] < 1:
                        file.seek(size // 2)
                        byte = file.read(1)
                        file.seek(size // 2)
                        file.write(bytes([byte[0] ^ 0x40]))
                        flipped[path] += 1

    sums = (
        "select count(*), sum(n), sum(k % 1000) from (select v % 3000000 as k, count(*) as n, min(s) as m from"
        " (select v, concat('text', v) as s from generate_series(1, 6000000) t(v)) group by v % 3000000)"
    )
    right = [(3_000_000, 6_000_000, 1_498_500_000)]
    thread = threading.Thread(target=flip)
    thread.start()
    try:
        for _ in range(3):
            try:
                assert run(cluster, sums, seconds=120) == right
            except dbapi.Error as error:
                assert "checksum" in str(error), error
    finally:
        stop.set()
        thread.join()
    print(f"attack: {len(flipped)} spill files damaged")
    assert flipped, "nothing was spilled"
    check_alive(cluster)


LARGE = "select v, repeat('x', 1000) as s from generate_series(1, 2000000) t(v)"


def test_readers_that_stop(attacked):
    with contextlib.ExitStack() as open_ones:
        for _ in range(70):
            connection = open_ones.enter_context(dbapi.connect(attacked.url, autocommit=True))
            cursor = open_ones.enter_context(connection.cursor())
            cursor.execute(LARGE)
        assert cursor.fetchone() == (1, "x" * 1000)
        check_alive(attacked)
    wait_idle(attacked, seconds=60)
    check_alive(attacked)


def test_file_that_is_replaced_while_it_is_read(attacked, tmp_path):
    rows, folder = 2_000_000, tmp_path / "t"
    folder.mkdir()
    for value in (1, 2):
        table = pa.table({"g": pa.array([value] * rows), "n": pa.array(range(rows))})
        parquet.write_table(table, tmp_path / str(value), row_group_size=50_000)
        os.utime(tmp_path / str(value), (value * 1000, value * 1000))
    os.link(tmp_path / "1", folder / "f.parquet")
    run(attacked, f"create external table replaced stored as parquet location '{folder}/'")
    sql = "select min(g), max(g), count(*), sum(length(md5(cast(n as varchar)))) from replaced -- {}"
    refused = 0
    with ThreadPoolExecutor(1) as pool:
        for turn in range(6):
            os.link(tmp_path / str(2 - turn % 2), tmp_path / "next")
            before = work(attacked)
            reading = pool.submit(run, attacked, sql.format(turn))
            wait_until(lambda: work(attacked) > before + 0.3, 20, "work")
            os.rename(tmp_path / "next", folder / "f.parquet")
            try:
                [(least, most, count, _)] = reading.result()
                assert least == most and count == rows
            except dbapi.Error as error:
                check_sentence(str(error), "InvalidArgument", "f.parquet has changed since the query began")
                refused += 1
    assert refused > 0
    run(attacked, "drop table replaced")


def test_results_that_nobody_fetches(attacked):
    clients = [client(attacked) for _ in range(20)]
    for one in clients:
        one.get_flight_info(statement(LARGE))
    check_alive(attacked)
    for one in clients:
        one.close()
    wait_idle(attacked, seconds=60)
    check_alive(attacked)


def test_statements_that_are_prepared_without_end(attacked):
    with dbapi.connect(attacked.url, autocommit=True) as connection, contextlib.ExitStack() as open_ones:
        with pytest.raises(dbapi.Error) as failure:
            for number in range(5000):
                cursor = open_ones.enter_context(connection.cursor())
                cursor.adbc_prepare(f"select {number} + ?")
        check_sentence(str(failure.value), "ResourceExhausted", f"{number} prepared statements, which is the limit")
        check_alive(attacked)
    check_alive(attacked)


def test_long_statements_that_are_prepared(attacked):
    long = "x" * 1_500_000
    with dbapi.connect(attacked.url, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(2):
            cursor.execute(f"prepare p{number} as select '{long}'")
        with pytest.raises(dbapi.Error, match="DEALLOCATE some"):
            cursor.execute(f"prepare p2 as select '{long}'")
        cursor.execute("deallocate p0")
        cursor.execute(f"prepare p2 as select '{long}'")
    check_alive(attacked)


def test_large_parameters(attacked):
    with dbapi.connect(attacked.url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("select length(?)", ("x" * 15_000_000,))
        assert cursor.fetchall() == [(15_000_000,)]
        with pytest.raises(dbapi.Error, match="larger than max"):
            cursor.execute("select length(?)", ("x" * 100_000_000,))
        with pytest.raises(dbapi.Error, match="10000 rows of parameters"):
            cursor.executemany("select length(?)", [("x",)] * 20_000)
    check_alive(attacked)


def test_connections_that_say_nothing(new_cluster, monkeypatch):
    before = processes.die_with_the_tests

    def with_few_files():
        before()
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    monkeypatch.setattr(processes, "die_with_the_tests", with_few_files)
    cluster = new_cluster(executors=1)
    host, port = cluster.scheduler.address.split(":")
    with contextlib.ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(socket.create_connection((host, int(port)), timeout=5))
        # The scheduler closes silent connections after ten seconds. Then waiting ones get their turn.
        assert run(cluster, INNOCENT, seconds=30) == [(3,)]
        check_alive(cluster)
