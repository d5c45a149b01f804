"""Stores that refuse, break off and stall: a query answers right, or ends in one sentence within its deadline."""

import pyarrow as pa
import pytest

from answers import refused, rows, shell
from stores.faults import Faults

FILES, ROWS = 24, 2000
TOTAL = FILES * ROWS
ALL = "select count(*), sum(n), count(distinct file) from many"
ALL_ROWS = [f"{TOTAL},{TOTAL * (TOTAL - 1) // 2},{FILES}"]
# Seconds that a cluster with a debug binary needs besides.
SLACK = 5


@pytest.fixture
def store(request, stores):
    """The store of the test's parameter, with a table of many files."""
    store = stores(request.param)
    for file in range(FILES):
        numbers = range(file * ROWS, (file + 1) * ROWS)
        store.put_table(f"many/{file:02}.parquet", pa.table({"n": numbers, "file": [file] * ROWS}))
    return store


@pytest.fixture
def faults(store):
    faults = Faults(store)
    yield faults
    faults.stop()


@pytest.fixture
def reader(store, faults, new_cluster, tmp_path):
    """Starts a cluster that reads the table `many` through the proxy."""

    def start(*flags, **deadlines):
        root = store.url if store.lists else faults.endpoint
        endpoint = {"endpoint": faults.endpoint} if store.lists else {}
        config = store.config(tmp_path, location=root, **endpoint, **deadlines)
        cluster = new_cluster(scheduler_flags=("--config", str(config), *flags))
        files = [f"'{root}/many/'"] if store.lists else [f"'{root}/many/{file:02}.parquet'" for file in range(FILES)]
        rows(cluster, f"create external table many stored as parquet location ({', '.join(files)})")
        return cluster

    return start


def on(*names):
    return pytest.mark.parametrize("store", names, indirect=True)


def is_listing(path):
    return "list-type=2" in path or "comp=list" in path


def is_file(path):
    return not is_listing(path)


@on("s3", "azure", "gcs", "http")
def test_a_query_over_many_files_is_right_under_faults(faults, reader):
    cluster = reader(request_timeout=1, retry_timeout=60)
    shares = {"busy": 0.2, "throttled": 0.05, "reset": 0.05, "stall": 0.01, "slow": 0.01}
    faults.break_with(shares, concerns=is_file)
    by_file = "select file, min(n), max(n), count(*) from many group by file order by file"
    expected = [f"{file},{file * ROWS},{(file + 1) * ROWS - 1},{ROWS}" for file in range(FILES)]
    assert rows(cluster, by_file) == expected
    broken = faults.counts.total() - faults.counts["requests"]
    assert faults.counts["busy"] and broken > 10, faults.counts


@pytest.mark.parametrize("fault", ["busy", "throttled", "reset", "silent"])
@on("s3")
def test_a_listing_with_a_fault_is_asked_for_again(faults, reader, fault):
    cluster = reader(request_timeout=2, retry_timeout=10)
    faults.break_with({fault: 1}, at_most=1, concerns=is_listing)
    assert rows(cluster, ALL, seconds=30) == ALL_ROWS
    assert faults.counts[fault] == 1, faults.counts


@pytest.mark.parametrize("fault", ["reset", "stall", "silent", "slow"])
@on("s3", "http")
def test_a_file_with_a_fault_is_read_on(faults, reader, fault):
    cluster = reader("--listing-ttl", "600", request_timeout=2, retry_timeout=10)
    assert rows(cluster, ALL) == ALL_ROWS
    faults.break_with({fault: 1}, at_most=2, concerns=is_file)
    # Another text, so that its rows are read anew.
    assert rows(cluster, ALL.replace("sum(n)", "sum(n + 0)"), seconds=30) == ALL_ROWS
    assert faults.counts[fault] == 2, faults.counts


@pytest.mark.parametrize("fault, says", [("busy", "SlowDown"), ("throttled", "429"), ("silent", "nothing for 2 s")])
@on("s3")
def test_a_store_that_only_fails_ends_the_planning(faults, reader, fault, says):
    cluster = reader(request_timeout=2, retry_timeout=4)
    faults.break_with({fault: 1})
    refused(shell(cluster, ALL, seconds=2 + 4 + SLACK), "/many", says)


@pytest.mark.parametrize("fault, says", [("busy", "SlowDown"), ("reset", "/many/"), ("stall", "nothing for 2 s")])
@on("s3")
def test_a_store_that_fails_while_rows_are_read_ends_the_query(faults, reader, fault, says):
    cluster = reader("--listing-ttl", "600", request_timeout=2, retry_timeout=4)
    assert rows(cluster, ALL) == ALL_ROWS
    faults.break_with({fault: 1}, concerns=is_file)
    done = shell(cluster, ALL.replace("sum(n)", "sum(n + 0)"), seconds=2 + 4 + SLACK)
    refused(done, "/many/", says)
