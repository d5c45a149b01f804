"""Killed executors, graceful stops, restarts, and clusters without an executor."""

import collections
import functools
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest
from adbc_driver_flightsql import dbapi
from pyarrow import compute, csv, parquet

from processes import BINARY, hwacha, wait_until

ROWS = 3_000_000
KEYS = 1000
HEAVY = """
select a.k, count(*) as n, sum(a.n % 97 + b.m) as s
from big a join (select k, sum(n % 89) as m from big group by k) b on a.k = b.k
where length(repeat(cast(a.n as varchar), 20)) > 0
group by a.k
"""


def run(cluster, sql):
    with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def make_big(cluster):
    run(cluster, f"create table big as select value as n, value % {KEYS} as k from generate_series(0, {ROWS - 1})")


def heavy_answer():
    """The right rows of HEAVY, computed in Python."""
    sums, products = [0] * KEYS, [0] * KEYS
    for n in range(ROWS):
        sums[n % KEYS] += n % 89
        products[n % KEYS] += n % 97
    count = ROWS // KEYS
    return [(k, count, products[k] + count * sums[k]) for k in range(KEYS)]


def whoever_works(executors):
    """Waits until an executor computes, and returns it."""
    before = [executor.cpu_seconds() for executor in executors]
    busy = []

    def look():
        busy[:] = [e for e, start in zip(executors, before) if e.cpu_seconds() - start > 0.25]
        return busy

    wait_until(look, 60, "work on any executor")
    return busy[0]


def is_idle(process):
    """Whether a process uses less than 0.1 s of CPU time in half a second."""
    before = process.cpu_seconds()
    threading.Event().wait(0.5)
    return process.cpu_seconds() - before < 0.1


def test_killed_executor_does_not_change_the_answer(new_cluster):
    cluster = new_cluster()
    make_big(cluster)
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(run, cluster, HEAVY)
        whoever_works(cluster.executors).kill()
        assert sorted(query.result(timeout=180)) == heavy_answer()
    assert run(cluster, "select count(*) from big") == [(ROWS,)]


def write_files(folder):
    """Writes Parquet files with pyarrow (of 12, 1 and 4 row groups), and a CSV file beside them."""
    folder.mkdir()
    for number, (rows, group) in enumerate([(1_200_000, 100_000), (150_000, 150_000), (150_000, 40_000)]):
        start = number * 10_000_000
        table = pa.table({"n": pa.array(range(start, start + rows)), "t": [f"text {n % 977}" for n in range(rows)]})
        parquet.write_table(table, folder / f"part-{number}.parquet", row_group_size=group)
    csv.write_csv(pa.table({"n": pa.array(range(400_000)), "t": ["x"] * 400_000}), folder.parent / "rows.csv")
    return folder


LARGE_RESULTS = {
    "scan": "select n, repeat(t, 30) as s from '{files}/' where n % 10 <> 3",
    "union": "select n, repeat(t, 30) as s from '{files}/' union all select -1 - n, repeat(t, 300) from '{folder}/rows.csv'",
}


@pytest.mark.parametrize("rows_before", [1, 300_000, 900_000])
@pytest.mark.parametrize("name", LARGE_RESULTS)
def test_large_result_goes_on_after_its_executor_was_killed(new_cluster, tmp_path, name, rows_before):
    cluster = new_cluster()
    files = write_files(tmp_path / "files")
    large = LARGE_RESULTS[name].format(files=files, folder=tmp_path)
    counted = run(cluster, f"select count(*), sum(n), sum(length(s)), count(distinct n) from ({large}) t")
    with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(large)
        killed, rows, numbers, length = False, 0, [], 0
        for batch in cursor.fetch_record_batch():
            rows += batch.num_rows
            numbers.append(batch["n"])
            length += compute.sum(compute.utf8_length(batch["s"])).as_py()
            if not killed and rows >= rows_before:
                killed = True
                cluster.executors[0].kill()
        numbers = pa.chunked_array(numbers)
        assert [(rows, compute.sum(numbers).as_py(), length, len(numbers.unique()))] == counted


def test_executors_that_leave_first_deliver_what_they_have_computed(new_cluster):
    cluster = new_cluster(executors=3)
    run(cluster, "create table big as select value as n, repeat(cast(value as varchar), 20) as t "
                 "from generate_series(1, 1000000)")
    with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("select n, max(t) as t from big group by n")
        rows, stopping = 0, None
        with ThreadPoolExecutor(2) as pool:
            for batch in cursor.fetch_record_batch():
                rows += batch.num_rows
                if stopping is None:
                    stopping = [pool.submit(executor.stop) for executor in cluster.executors[:2]]
                    time.sleep(1)
            assert rows == 1_000_000
            assert [stopped.result() for stopped in stopping] == [0, 0]
    assert run(cluster, "select count(*) from big") == [(1_000_000,)]


def test_table_is_written_although_executors_are_killed(new_cluster):
    cluster = new_cluster(executor_flags={"--memory-limit": "1GiB"})
    make_big(cluster)
    with ThreadPoolExecutor(1) as pool:
        tables = cluster.folder / "data" / "tables"
        before = set(tables.glob("*/*.parquet"))
        rows = "select n, sum(k) as k, repeat(min(cast(n as varchar)), 30) as s from big group by n"
        query = pool.submit(run, cluster, f"create table copy as {rows}")
        new_files = lambda: set(tables.glob("*/*.parquet")) - before
        wait_until(lambda: any(path.stat().st_size > 100_000 for path in new_files()), 60, "rows in the new table")
        for executor in cluster.executors:
            executor.kill()
        cluster.start_executor()
        query.result(timeout=180)
    assert run(cluster, "select count(*), sum(n) from copy") == [(ROWS, ROWS * (ROWS - 1) // 2)]


FILTERED = """
select count(*) as n, sum(b.s) as s
from (select n from big where length(repeat(cast(n as varchar), 20)) > 0 and n % 3 = 1) a
join (select n, sum(length(repeat(cast(n as varchar), 20))) as s from big group by n) b on a.n = b.n
"""


FILTERED_ROWS = [n for n in range(ROWS) if n % 3 == 1]
FILTERED_ANSWER = [(len(FILTERED_ROWS), sum(20 * len(str(n)) for n in FILTERED_ROWS))]

SHARED = """
with t as (select n % 50000 as k, count(*) as c, sum(length(repeat(cast(n as varchar), 20))) as s from big group by 1)
select count(*) as n, sum(a.c - b.c) as c, sum(a.s - b.s) as s from t a join t b on a.k = b.k + 1
"""


def shared_answer():
    count, length = collections.Counter(), collections.Counter()
    for n in range(ROWS):
        count[n % 50000] += 1
        length[n % 50000] += 20 * len(str(n))
    keys = range(1, min(ROWS, 50000))
    return [(len(keys), sum(count[k] - count[k - 1] for k in keys), sum(length[k] - length[k - 1] for k in keys))]


# The planner assumes that a third of the rows pass, which is too much to broadcast. A tenth passes.
SWITCHED = """
select count(*) as n, sum(length(repeat(cast(b.n as varchar), 50))) as s
from (select n from big where (n * 7) % 1000 > 899) a join big b on a.n = b.n
"""
SWITCHED_ROWS = [n for n in range(ROWS) if n * 7 % 1000 > 899]
SWITCHED_ANSWER = [(len(SWITCHED_ROWS), sum(50 * len(str(n)) for n in SWITCHED_ROWS))]

# Four of five rows have the same key, and both sides are too large to broadcast.
SKEWED = """
select count(*) as n, sum(length(repeat(cast(a.n as varchar), 20)) + a.k - b.k) as s
from (select n, k, case when n % 5 < 4 then 7 else n end as m from big) a join big b on a.m = b.n
"""
SKEWED_ANSWER = [(ROWS, sum(20 * len(str(n)) + n % KEYS - (7 if n % 5 < 4 else n) % KEYS for n in range(ROWS)))]

HAVING = """
select count(*) as n, sum(length(repeat(cast(n as varchar), 50))) as s
from big where n in (select n from big group by n having sum(n) % 10 > 7)
"""
HAVING_ROWS = [n for n in range(ROWS) if n % 10 > 7]
HAVING_ANSWER = [(len(HAVING_ROWS), sum(50 * len(str(n)) for n in HAVING_ROWS))]

NEWEST = """
select count(*) as c, sum(n) as s
from (select n, row_number() over (partition by k order by length(repeat(cast(n as varchar), 20)) desc, n desc) as r
      from big) where r <= 3
"""
NEWEST_ROWS = range(ROWS - 3 * KEYS, ROWS)
NEWEST_ANSWER = [(len(NEWEST_ROWS), sum(NEWEST_ROWS))]

# Checks the row number, the count and the running sum of each row.
RANKED = f"""
select count(*) as c, sum(n) as s
from (select n, row_number() over w as r, count(*) over w as c, sum(n) over w as s
      from big window w as (order by length(repeat(cast(n as varchar), 20)) desc, n desc))
where r + n = {ROWS} and c = r and 2 * s = c * {2 * ROWS - 1} - c * c
"""
RANKED_ANSWER = [(ROWS, sum(range(ROWS)))]

# There are few long names, so `big` is aggregated by `k` before the join.
EAGER = """
select count(*) as n, sum(c) as c, sum(s) as s
from (select name, count(*) as c, sum(n) as s
      from big join (select k, repeat(cast(k as varchar), 20) as name from big group by k) d on big.k = d.k
      group by name)
"""
EAGER_ANSWER = [(KEYS, ROWS, sum(range(ROWS)))]

BY_KEYS = """
select count(*) as n, sum(a.n % 97 + length(repeat(cast(b.n as varchar), 20))) as s
from big a join big b on a.n = b.n where a.k + 1 > 0
"""
BY_KEYS_ANSWER = [(ROWS, sum(n % 97 + 20 * len(str(n)) for n in range(ROWS)))]

# Two aggregations of one table, under different conditions.
TWICE = """
select (select sum(n) from big where k < 300) as a, (select sum(n) from big where k >= 200) as b
"""
TWICE_ANSWER = [(sum(n for n in range(ROWS) if n % KEYS < 300), sum(n for n in range(ROWS) if n % KEYS >= 200))]

# 3,000 rows for each of 20 keys: the join emits 180 million pairs.
PAIRED = "select a.k, count(*) as n, sum(a.n + b.n) as s from few a join few b on a.k = b.k group by a.k"
FEW = 60_000
FEW_KEYS = 20

SETTINGS = [
    "hwacha.optimizer.single_task_bytes = 0",
    "hwacha.optimizer.shared_subplan_bytes = 0",
    "hwacha.optimizer.broadcast_rows = 500000",
    "hwacha.optimizer.range_bytes = 1000000",
    "hwacha.optimizer.eager_aggregate_rows = 1000",
    # `big` is clustered by `n`. Key ranges would replace most of the tested exchanges.
    "hwacha.optimizer.key_ranges = false",
]


def run_spread(cluster, sql, settings=()):
    """Runs a statement on all executors, even if it reads few bytes."""
    with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
        for setting in [*SETTINGS, *settings]:
            cursor.execute(f"set {setting}")
        cursor.execute(sql)
        return cursor.fetchall()


def answer_with_a_killed_executor(cluster, sql, share, run=run_spread):
    """The rows of a query. An executor is killed after this share of the query's CPU time."""

    def work():
        return sum(executor.cpu_seconds() for executor in cluster.executors)

    before = work()
    run(cluster, sql)
    goal = work() + share * (work() - before)
    with ThreadPoolExecutor(1) as pool:
        # With another text, the query is not in the plan cache.
        query = pool.submit(run, cluster, sql + " -- again")
        wait_until(lambda: work() >= goal or query.done(), 60, "part of the work")
        cluster.executors[0].kill()
        return query.result(timeout=180)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_executor_killed_before_and_after_a_filter_is_sent(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + FILTERED))
    assert ", after stage " in plan and "filter=[n@0]" in plan, plan
    assert run_spread(cluster, FILTERED) == FILTERED_ANSWER
    assert answer_with_a_killed_executor(cluster, FILTERED, share) == FILTERED_ANSWER


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_executor_killed_while_others_read_what_is_shared(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + SHARED))
    assert plan.count("ExchangeSourceExec: stage=1, forward") == 2, plan
    answer = shared_answer()
    assert run_spread(cluster, SHARED) == answer
    assert answer_with_a_killed_executor(cluster, SHARED, share) == answer


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_executor_killed_under_a_join_that_reads_its_build_side_whole(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain analyze " + SWITCHED))
    assert "adapted: each task reads the whole build side, since stage 0" in plan, plan
    assert "adapted: rows are not hashed" in plan, plan
    assert run_spread(cluster, SWITCHED) == SWITCHED_ANSWER
    assert answer_with_a_killed_executor(cluster, SWITCHED, share) == SWITCHED_ANSWER


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_executor_killed_while_a_heavy_partition_is_shared(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain analyze " + SKEWED))
    assert "adapted: all tasks share 1 large partition of the probe side" in plan, plan
    assert run_spread(cluster, SKEWED) == SKEWED_ANSWER
    assert answer_with_a_killed_executor(cluster, SKEWED, share) == SKEWED_ANSWER


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_executor_killed_around_a_build_side_that_is_finished_first(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + HAVING))
    assert "ExchangeSinkExec: forward, filter=[n@0]" in plan, plan
    assert run_spread(cluster, HAVING) == HAVING_ANSWER
    assert answer_with_a_killed_executor(cluster, HAVING, share) == HAVING_ANSWER


@pytest.mark.parametrize("share", [0.4, 0.8])
def test_executor_killed_while_sorted_rows_are_merged(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    merged = functools.partial(run_spread, settings=["hwacha.optimizer.ranges = false"])
    plan = "\n".join(text for _, text in merged(cluster, "explain " + RANKED))
    assert "ExchangeSinkExec: merge" in plan, plan
    assert merged(cluster, RANKED) == RANKED_ANSWER
    assert answer_with_a_killed_executor(cluster, RANKED, share, merged) == RANKED_ANSWER


@pytest.mark.parametrize("share", [0.4, 0.7, 0.9])
def test_executor_killed_while_ranges_are_ranked(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + RANKED))
    assert "ExchangeSinkExec: range(" in plan, plan
    assert run_spread(cluster, RANKED) == RANKED_ANSWER
    assert answer_with_a_killed_executor(cluster, RANKED, share) == RANKED_ANSWER


def test_rows_that_take_several_messages_a_batch_keep_their_order(new_cluster):
    cluster = new_cluster()
    make_big(cluster)
    wide = "select n, repeat(cast(n % 10 as varchar), 1000) as w from big where n < 60000"
    rows = run_spread(cluster, f"select n, w from ({wide}) order by length(w), n desc")
    assert rows == [(n, str(n % 10) * 1000) for n in range(59999, -1, -1)]
    summed = f"select n, sum(n) over (order by length(w), n) as s from ({wide})"
    assert run_spread(cluster, f"select count(*), sum(s - n * (n + 1) / 2) from ({summed})") == [(60000, 0)]


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_executor_killed_while_ranks_are_limited(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + NEWEST))
    assert plan[plan.index("Stage ") :].count("BoundedWindowAggExec: ") == 2, plan
    assert run_spread(cluster, NEWEST) == NEWEST_ANSWER
    assert answer_with_a_killed_executor(cluster, NEWEST, share) == NEWEST_ANSWER


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_executor_killed_while_rows_are_aggregated_before_they_are_joined(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + EAGER))
    assert any(stage.count("mode=Partial, ") == 2 for stage in plan.split("Stage ")), plan
    assert run_spread(cluster, EAGER) == EAGER_ANSWER
    assert answer_with_a_killed_executor(cluster, EAGER, share) == EAGER_ANSWER


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_executor_killed_while_rows_stay_where_their_keys_are(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    by_ranges = functools.partial(run_spread, settings=["hwacha.optimizer.key_ranges = true"])
    plan = "\n".join(text for _, text in by_ranges(cluster, "explain " + BY_KEYS))
    assert plan.count("ExchangeSinkExec: forward") == 2 and "ExchangeSinkExec: hash(" not in plan, plan
    assert by_ranges(cluster, BY_KEYS) == BY_KEYS_ANSWER
    assert answer_with_a_killed_executor(cluster, BY_KEYS, share, by_ranges) == BY_KEYS_ANSWER


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_executor_killed_while_one_scan_serves_two_aggregations(new_cluster, share):
    cluster = new_cluster()
    make_big(cluster)
    plan = "\n".join(text for _, text in run_spread(cluster, "explain " + TWICE))
    assert plan[plan.index("Stage ") :].count("DataSourceExec: ") == 1, plan
    assert run_spread(cluster, TWICE) == TWICE_ANSWER
    assert answer_with_a_killed_executor(cluster, TWICE, share) == TWICE_ANSWER


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_executor_killed_around_a_query_that_is_planned_again(new_cluster, share):
    cluster = new_cluster()
    run(cluster, f"create table few as select value as n, value % {FEW_KEYS} as k from generate_series(1, {FEW})")
    [(_, plan)] = run(cluster, "explain analyze " + PAIRED)
    assert plan.startswith("Planned again for all executors"), plan
    rows = FEW // FEW_KEYS
    sums = collections.Counter()
    for n in range(1, FEW + 1):
        sums[n % FEW_KEYS] += n
    answer = [(k, rows * rows, 2 * rows * sums[k]) for k in range(FEW_KEYS)]
    assert sorted(answer_with_a_killed_executor(cluster, PAIRED, share, run)) == answer


def test_executor_that_hangs_does_not_hang_the_query(new_cluster):
    cluster = new_cluster()
    make_big(cluster)
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(run, cluster, HEAVY)
        stuck = whoever_works(cluster.executors)
        stuck.child.send_signal(signal.SIGSTOP)
        assert sorted(query.result(timeout=180)) == heavy_answer()


def test_killed_client_frees_the_executors(new_cluster):
    cluster = new_cluster()
    endless = "select count(*) from generate_series(1, 300000) a, generate_series(1, 300000) b where a.value % 7 = b.value % 5"
    client = subprocess.Popen(
        [BINARY, "sql", "--url", cluster.url, "-c", endless],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )
    worker = whoever_works(cluster.executors)
    client.kill()
    client.wait()
    wait_until(lambda: is_idle(worker), 30, "the end of the work of a client that is gone")
    assert run(cluster, "select 1") == [(1,)]


def test_new_executor_takes_over(new_cluster):
    cluster = new_cluster(executors=1)
    assert run(cluster, "select 1") == [(1,)]
    cluster.executors[0].kill()
    cluster.start_executor()
    assert run(cluster, "select sum(value) from generate_series(1, 1000)") == [(500500,)]


def test_stop_is_graceful(new_cluster):
    cluster = new_cluster()
    assert run(cluster, "select 1") == [(1,)]
    start = time.monotonic()
    for process in [*cluster.executors, cluster.scheduler]:
        assert process.stop() == 0, process.logged()
    assert time.monotonic() - start < 20


def test_stop_of_one_executor_leaves_the_other(new_cluster):
    cluster = new_cluster()
    assert cluster.executors[0].stop() == 0
    assert run(cluster, "select count(*) from generate_series(1, 100000)") == [(100000,)]


def test_tables_and_views_survive_a_restart(new_cluster):
    cluster = new_cluster(executors=1)
    run(cluster, "create table kept as select value as n from generate_series(1, 1000)")
    run(cluster, "create view kept_view as select sum(n) as total from kept")
    run(cluster, "create table dropped as select 1 as n")
    run(cluster, "drop table dropped")
    for process in [*cluster.executors, cluster.scheduler]:
        process.stop()
    cluster.start_scheduler()
    cluster.start_executor()
    assert run(cluster, "select count(*) from kept") == [(1000,)]
    assert run(cluster, "select total from kept_view") == [(500500,)]
    with pytest.raises(dbapi.Error, match="dropped"):
        run(cluster, "select * from dropped")


@pytest.mark.parametrize(("flags", "seen"), [([], 3), (["--listing-ttl", "600"], 1)])
def test_listings_hold_for_as_long_as_was_asked(new_cluster, tmp_path, flags, seen):
    cluster = new_cluster(executors=1, scheduler_flags=flags)
    (tmp_path / "1.csv").write_text("n\n1\n")
    run(cluster, f"create external table numbers stored as csv location '{tmp_path}/' options ('format.has_header' 'true')")
    assert run(cluster, "select sum(n) from numbers") == [(1,)]
    (tmp_path / "2.csv").write_text("n\n2\n")
    assert run(cluster, "select sum(n) from numbers") == [(seen,)]
    assert run(cluster, "select sum(n) + 0 from numbers") == [(seen,)]
    run(cluster, "create view anything as select 1 as n")
    assert run(cluster, "select sum(n) from numbers") == [(3,)]


def test_tables_survive_a_killed_scheduler(new_cluster):
    cluster = new_cluster(executors=1)
    run(cluster, "create table kept as select 7 as n")
    cluster.scheduler.kill()
    cluster.executors[0].kill()
    cluster.start_scheduler()
    cluster.start_executor()
    assert run(cluster, "select n from kept") == [(7,)]


def test_nobody_to_run_a_query(new_cluster):
    cluster = new_cluster(executors=0, scheduler_flags=["--executor-wait", "3"])
    start = time.monotonic()
    done = hwacha("sql", "--url", cluster.url, "-c", "select count(*) from generate_series(1, 1000)")
    assert time.monotonic() - start < 30
    assert done.returncode != 0
    assert "executor" in done.stderr.lower() and "panicked" not in done.stderr


def test_query_waits_for_its_first_executor(new_cluster):
    cluster = new_cluster(executors=0)
    with ThreadPoolExecutor(1) as pool:
        query = pool.submit(run, cluster, "select sum(value) from generate_series(1, 1000)")
        cluster.start_executor()
        assert query.result(timeout=60) == [(500500,)]


def test_sort_larger_than_memory(new_cluster):
    cluster = new_cluster(executors=1)
    wide = "select concat(repeat('x', 400), (value * 7919) % 1500007) as s from generate_series(1, 1500000)"
    ranked = f"select s, row_number() over (order by s) as r from ({wide}) w"
    total = sum(400 + len(str(value * 7919 % 1500007)) for value in range(1, 1_500_001))
    assert run(cluster, f"select count(*), sum(length(s)), max(r) from ({ranked}) t") == [(1_500_000, total, 1_500_000)]


def test_health_of_processes(new_cluster):
    cluster = new_cluster(executors=1)
    scheduler, executor = cluster.scheduler.address, cluster.executors[0].address
    for address in (scheduler, executor):
        for flags in [(), ("--live",)]:
            asked = hwacha("health", f"grpc://{address}", *flags)
            assert (asked.returncode, asked.stdout) == (0, "live\n" if flags else "ready\n"), asked.stderr
    cluster.scheduler.kill()
    wait_until(lambda: hwacha("health", f"grpc://{executor}").stdout == "not ready\n", 20, "an executor without a scheduler")
    assert hwacha("health", f"grpc://{executor}").returncode == 1
    assert hwacha("health", f"grpc://{executor}", "--live").returncode == 0
    nobody = hwacha("health", f"grpc://{scheduler}")
    assert nobody.returncode == 1 and scheduler in nobody.stderr and len(nobody.stderr.splitlines()) == 1, nobody.stderr
