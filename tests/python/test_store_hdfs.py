"""Tables in HDFS: what only this store has."""

import socket

import pyarrow as pa
import pytest

from answers import embedded, refused, rows, shell
from stores import config

# A table of several blocks.
ROWS = 2_000_000


@pytest.fixture(scope="module")
def hdfs(stores):
    return stores("hdfs")


def test_a_file_of_several_blocks(hdfs, new_cluster, tmp_path):
    table = pa.table({"n": range(ROWS), "text": [f"{number % 7919:032}" for number in range(ROWS)]})
    hdfs.put_table("blocks.parquet", table)
    cluster = new_cluster(scheduler_flags=("--config", str(hdfs.config(tmp_path))))
    sql = f"select count(*), sum(n), count(distinct text) from '{hdfs.url}/blocks.parquet'"
    assert rows(cluster, sql) == [f"{ROWS},{ROWS * (ROWS - 1) // 2},7919"]


def test_an_absent_path_is_named(hdfs, tmp_path):
    empty = config(tmp_path)
    for place in ["none.parquet", "none/x.parquet", "none/*.parquet"]:
        refused(embedded(empty, f"select * from '{hdfs.url}/{place}'"), f'no file matches "{hdfs.url}/{place}"')


def test_a_name_node_that_is_dead(tmp_path):
    done = embedded(config(tmp_path), "select * from 'hdfs://127.0.0.1:1/a.parquet'", seconds=30)
    refused(done, "hdfs://127.0.0.1:1/a.parquet cannot be read", "Connection refused")


def test_a_name_node_that_says_nothing(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"hdfs://127.0.0.1:{silent.getsockname()[1]}"
        section = f'[storage."{url}"]\nrequest_timeout = 3\nretry_timeout = 3\n'
        done = embedded(config(tmp_path, section), f"select * from '{url}/a.parquet'", seconds=20)
    refused(done, f"{url}/a.parquet cannot be read", "nothing for 3 s")


def test_nodes_that_stop(hdfs, new_cluster, tmp_path):
    hdfs.put_table("stops/v.parquet", pa.table({"v": range(1000)}))
    section = hdfs.section(tmp_path, location=hdfs.host, request_timeout=3, retry_timeout=3)
    cluster = new_cluster(scheduler_flags=("--config", str(config(tmp_path, section)), "--listing-ttl", "600"))
    sql = f"select sum(v) from '{hdfs.url}/stops/'"
    assert rows(cluster, sql) == ["499500"]
    with hdfs.stopped():
        done = shell(cluster, sql.replace("sum(v)", "sum(v + 1)"), seconds=20)
    refused(done, f"{hdfs.url}/stops/v.parquet cannot be read", "nothing for 3 s")
