"""Tables whose statements describe their store, and what such options leave behind."""

import os
import re

import pyarrow as pa
import pytest

from answers import refused, rows, shell
from processes import hwacha
from stores.s3 import KEY_ID, SECRET


@pytest.fixture(scope="module")
def lake(stores):
    lake = stores("s3")
    lake.put_table("options/v.parquet", pa.table({"v": list(range(10_000))}))
    lake.put_table("other/v.parquet", pa.table({"v": [1]}))
    return lake


@pytest.fixture
def cluster(lake, new_cluster):
    """A cluster without a configuration, which may read the bucket and the server."""
    flags = ("--allow-location", "s3://lake", "--allow-location", lake.endpoint, "--log-filter", "debug")
    return new_cluster(scheduler_flags=flags, executor_flags={"--log-filter": "debug"}, allowed="/")


def table(lake, location="s3://lake/options/", keys=True, **others):
    options = {"aws.endpoint": lake.endpoint, "aws.allow_http": "true", "aws.region": "us-east-1"}
    if keys:
        options |= {"aws.access_key_id": KEY_ID, "aws.secret_access_key": SECRET}
    options |= {f"aws.{name}": value for name, value in others.items()}
    listed = ", ".join(f"'{name}' '{value}'" for name, value in options.items())
    return f"create external table t stored as parquet options ({listed}) location '{location}'"


def test_a_table_brings_its_own_store(lake, cluster):
    assert rows(cluster, table(lake)) == []
    assert rows(cluster, "select count(*), sum(v) from t") == ["10000,49995000"]
    # Other tables of the bucket do not use it.
    refused(shell(cluster, "select * from 's3://lake/options/v.parquet'"), "s3://lake/options/v.parquet cannot be")
    cluster.scheduler.stop()
    cluster.start_scheduler()
    cluster.start_executor()
    assert rows(cluster, "select count(*) from t") == ["10000"]


def test_patterns_and_replaced_tables(lake, cluster):
    assert rows(cluster, table(lake, "s3://lake/options/*.parquet")) == []
    assert rows(cluster, "select max(v) from t") == ["9999"]
    assert rows(cluster, table(lake, "s3://lake/other/").replace("create", "create or replace"), "select v from t") == ["1"]
    assert len(list((cluster.folder / "data" / "state" / "stores").iterdir())) == 1
    shell(cluster, "drop table t")
    assert not list((cluster.folder / "data" / "state" / "stores").iterdir())


def test_a_store_is_only_for_its_table(lake, cluster):
    assert rows(cluster, table(lake)) == []
    (record,) = (cluster.folder / "data" / "state" / "stores").iterdir()
    for file in ["options", "other"]:
        url = f"s3://{record.name}@lake/{file}/v.parquet"
        refused(shell(cluster, f"select * from '{url}'"), "leave out the part before @")
        refused(shell(cluster, f"create external table u stored as parquet location '{url}'"), "leave out the part")


def test_secrets_of_options_are_in_one_private_file(lake, cluster):
    wrong = table(lake, secret_access_key="not-" + SECRET)
    said = ""
    for sql in [table(lake), "select count(*) from t", "explain analyze verbose select * from t", "show all",
                "show create table t", "select * from information_schema.views", wrong, wrong.replace(" t ", " u ")]:
        done = shell(cluster, sql)
        said += done.stdout + done.stderr
    records = list((cluster.folder / "data" / "state" / "stores").iterdir())
    assert all(SECRET in record.read_text() and os.stat(record).st_mode & 0o077 == 0 for record in records)
    for process in [cluster.scheduler, *cluster.executors]:
        process.stop()
        said += process.logged()
    files = [path for path in (cluster.folder / "data").rglob("*") if path.is_file() and path not in records]
    said += "".join(path.read_text(errors="replace") for path in files)
    assert "10000" in said and SECRET not in said and KEY_ID not in said


def test_options_that_a_server_does_not_carry_out(lake, new_cluster):
    cluster = new_cluster(scheduler_flags=("--allow-location", "s3://lake"))
    refused(shell(cluster, table(lake)), f"may not read {lake.endpoint}/")
    done = shell(cluster, table(lake, keys=False).replace("'aws.endpoint'", "'aws.end_point'"))
    refused(done, "tables in s3:// have no option aws.end_point")
    own = "create external table t stored as parquet options ('aws.region' 'x') location 's3://lake/options/'"
    refused(shell(cluster, own), "need credentials of their own")
    local = "create external table t stored as parquet options ('aws.region' 'x') location '/data'"
    refused(shell(cluster, local), "only tables in s3:// and gs:// have options about their store")


def test_a_cache_serves_what_was_read_until_the_file_changes(lake, new_cluster, tmp_path):
    lake.put_table("cached/v.parquet", pa.table({"v": list(range(100_000))}))
    flags = {"--cache-dir": str(tmp_path / "cache"), "--cache-limit": "256MiB"}
    cluster = new_cluster(executors=1, scheduler_flags=("--config", str(lake.config(tmp_path))), executor_flags=flags)
    analyze = "explain analyze select sum(v) from 's3://lake/cached/v.parquet'"

    def used(text):
        """The requests and the cached bytes of the scan."""
        found = re.search(r"store requests (\d+), retries 0, bytes [^,]*, cached ([^,]*), wait", text)
        assert found, text
        return int(found[1]), found[2]

    requests, cached = used(shell(cluster, analyze).stdout)
    assert requests > 0
    requests, cached = used(shell(cluster, analyze).stdout)
    assert requests == 0 and cached != "0 B"

    cluster.executors.pop().stop()
    cluster.start_executor()
    requests, cached = used(shell(cluster, analyze).stdout)
    assert requests == 0 and cached != "0 B"

    lake.put_table("cached/v.parquet", pa.table({"v": [7]}))
    assert rows(cluster, "select sum(v) from 's3://lake/cached/v.parquet'") == ["7"]


@pytest.mark.parametrize("problem", ["full", "used", "file"])
def test_a_cache_directory_that_cannot_be_used(new_cluster, tmp_path, problem):
    cluster = new_cluster(executors=0)
    folder = tmp_path / "cache"
    flags = ["--scheduler", f"http://{cluster.scheduler.address}", "--cache-dir", str(folder)]
    if problem == "full":
        flags += ["--cache-limit", "1000TiB"]
    elif problem == "file":
        folder.write_text("")
    else:
        cluster.executor_flags |= {"--cache-dir": str(folder), "--cache-limit": "256MiB"}
        cluster.start_executor()
    done = hwacha("executor", *flags)
    words = {"full": "give a smaller --cache-limit", "used": "another executor uses it", "file": "File exists"}
    assert done.returncode != 0 and len(done.stderr.splitlines()) == 1, done.stderr
    assert f"the cache directory {folder} cannot be used: " in done.stderr and words[problem] in done.stderr
