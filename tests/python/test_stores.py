"""Tables in every store that tells which files it has, and what a server may not read."""

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from answers import embedded, refused, rows, rows_of, shell
from processes import Cluster
from stores import Secret

CITIES = {2025: ["Seoul", "Busan"], 2026: ["Jeju", "Daegu", "Ulsan"]}


@pytest.fixture(scope="module", params=["s3", "azure", "gcs", "hdfs"])
def lake(request, stores):
    lake = stores(request.param)
    number = 0
    for year, cities in CITIES.items():
        for city in cities:
            number += 1
            rows = pa.table({"city": [city] * 1000, "n": list(range(number * 1000, number * 1000 + 1000))})
            lake.put_table(f"cities/year={year}/{city}.parquet", rows)
    lake.put_table("cities/_SUCCESS", pa.table({"x": [1]}))
    lake.put_table("csv/a.csv", pa.table({"k": [1, 2], "t": ["x", "y"]}), pa.csv.write_csv)
    lake.put_table("csv/b.csv", pa.table({"k": [3], "t": ["z"]}), pa.csv.write_csv)
    lake.put_table("csv2/c.csv", pa.table({"k": [4], "t": ["w"]}), pa.csv.write_csv)
    lake.put("rows.ndjson", b'{"a": 1}\n{"a": 2}\n')
    return lake


@pytest.fixture(scope="module")
def reader(lake, tmp_path_factory):
    """A cluster in which only the scheduler gets the configuration file."""
    folder = tmp_path_factory.mktemp("reader")
    cluster = Cluster(folder, scheduler_flags=("--config", str(lake.config(folder))))
    yield cluster
    cluster.stop()


def test_every_format_and_shape_of_table_is_read(lake, reader):
    url = lake.url
    assert rows(reader, f"select count(*), sum(n) from '{url}/cities/year=2025/Seoul.parquet'") == ["1000,1499500"]
    assert rows(reader, f"select count(*) from '{url}/cities/year=2026/*.parquet'") == ["3000"]
    assert rows(reader, f"select year, count(*) from '{url}/cities/' group by year order by year") == [
        "2025,2000",
        "2026,3000",
    ]
    assert rows(reader, f"select sum(k), max(t) from '{url}/csv/*.csv'") == ["6,z"]
    assert rows(reader, f"select sum(a) from '{url}/rows.ndjson'") == ["3"]


def test_external_tables_with_partitions_and_several_locations(lake, reader):
    url = lake.url
    create = f"create external table c (city text, n bigint, year text) stored as parquet partitioned by (year) location '{url}/cities/'"
    assert rows(reader, create, "select city from c where year = '2026' group by city order by city") == [
        "Daegu",
        "Jeju",
        "Ulsan",
    ]
    both = f"create external table both stored as csv location ('{url}/csv/', '{url}/csv2/c.csv') options (format.has_header true)"
    assert rows(reader, both, "select count(*), sum(k) from both") == ["4,10"]
    inferred = f"create external table g stored as parquet location '{url}/cities/year=2026/*.parquet'"
    assert rows(reader, inferred, "select count(*), min(city) from g") == ["3000,Daegu"]
    declared = f"create external table h (k bigint, t text) stored as csv location ('{url}/csv/*.csv', '{url}/csv2/*') options (format.has_header true)"
    assert rows(reader, declared, "select max(k), count(*) from h") == ["4,4"]
    partitioned = f"create external table p stored as parquet partitioned by (year) location '{url}/cities/S*.parquet'"
    assert rows(reader, partitioned, "select year, count(*) from p group by year") == ["2025,1000"]
    apart = f"create external table x stored as parquet location ('{url}/cities/S*.parquet', 's3://other/*.parquet')"
    refused(shell(reader, apart), "s3://other")
    joined = "select a.city, count(*) from c a join c b on a.n = b.n group by a.city order by a.city limit 1"
    assert rows(reader, joined) == ["Busan,1000"]
    written = f"create table w as select city, sum(n) as s from '{url}/cities/' group by city"
    assert rows(reader, written, "select count(*) from w") == ["5"]


@pytest.mark.parametrize("name", ["two words", "ünicode", "a+b", "a&b=c", "50%", "it's", "[1]"])
def test_a_file_with_an_odd_name(lake, reader, name):
    lake.put_table(f"odd {name}/{name}.parquet", pa.table({"v": [1, 2]}))
    folder = f"odd {name}".replace("'", "''")
    assert rows(reader, f"select sum(v) from '{lake.url}/{folder}/*.parquet'") == ["3"]


def test_a_replaced_file_is_another_file(lake, reader):
    lake.put_table("replaced.parquet", pa.table({"v": [1, 2, 3]}))
    count = f"select sum(v) from '{lake.url}/replaced.parquet'"
    assert rows(reader, count) == ["6"]
    # The size is the same, and most likely the second of the modification too.
    lake.put_table("replaced.parquet", pa.table({"v": [4, 5, 6]}))
    assert rows(reader, count) == ["15"]


def test_the_shells_own_cluster_reads_it_too(lake, tmp_path):
    done = embedded(lake.config(tmp_path), f"select count(*) from '{lake.url}/cities/'")
    assert rows_of(done) == ["5000"]


def test_a_missing_file_is_named_in_a_sentence(lake, reader):
    refused(shell(reader, f"select * from '{lake.url}/none.parquet'"), f"no file matches \"{lake.url}/none.parquet\"")
    refused(shell(reader, f"select * from '{lake.url}/none/*.parquet'"), "no file matches")
    refused(shell(reader, "select * from 'ftp://host/x.parquet'"), "there is no store for ftp://", "hdfs")
    refused(shell(reader, "select * from 'az://other/x.parquet'"), "this server may not read az://other/x.parquet")


def test_a_secret_is_in_no_log_plan_answer_or_catalog(lake, new_cluster, tmp_path):
    secrets = [setting.value for setting in lake.settings.values() if isinstance(setting, Secret)]
    # A line of a key in JSON is a secret too.
    secrets += [line for secret in secrets for line in secret.split("\\n") if len(line) > 40]
    options = {"--config": str(lake.config(tmp_path)), "--log-filter": "debug"}
    flags = tuple(part for pair in options.items() for part in pair)
    cluster = new_cluster(scheduler_flags=flags, executor_flags={"--log-filter": "debug"})
    table = f"create external table c stored as parquet location '{lake.url}/cities/'"
    said = ""
    for sql in ["select count(*) from c", "explain analyze verbose select * from c", "show all", "select * from missing"]:
        done = shell(cluster, table.replace("table c", "table if not exists c"), sql)
        said += done.stdout + done.stderr
    for process in [cluster.scheduler, *cluster.executors]:
        process.stop()
        said += process.logged()
    said += "".join(path.read_text(errors="replace") for path in (cluster.folder / "data").rglob("*") if path.is_file())
    assert "count" in said
    for secret in secrets:
        assert secret not in said


@pytest.mark.parametrize("ending, write", [("parquet", pa.parquet.write_table), ("csv", pa.csv.write_csv)])
def test_a_query_reads_the_files_that_were_listed_or_none(lake, new_cluster, tmp_path, ending, write):
    flags = ("--config", str(lake.config(tmp_path)), "--listing-ttl", "600")
    cluster = new_cluster(scheduler_flags=flags)
    folder = f"{lake.url}/listed-{ending}"
    lake.put_table(f"listed-{ending}/v.{ending}", pa.table({"v": [1, 2, 3]}), write)
    count = f"select sum(v) from '{folder}/'"
    assert rows(cluster, count) == ["6"]
    lake.put_table(f"listed-{ending}/v.{ending}", pa.table({"v": [4, 5, 6]}), write)
    # This text is not in the plan cache, but the listing with the old file is cached.
    again = shell(cluster, count.replace("sum(v)", "min(v), sum(v)"))
    refused(again, f"the file {folder}/v.{ending} has changed since the query began; run it again")


def test_a_server_reads_only_what_is_allowed(new_cluster, tmp_path):
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    for folder in (allowed, other):
        folder.mkdir()
        pa.parquet.write_table(pa.table({"v": [1]}), folder / "a.parquet")
    (allowed / "link.parquet").symlink_to(other / "a.parquet")
    (allowed / "folder").symlink_to(other)
    cluster = new_cluster(allowed=str(allowed))
    assert rows(cluster, f"select count(*) from '{allowed}/a.parquet'") == ["1"]
    assert rows(cluster, "create table own as select 1 as v", "select count(*) from own") == ["1"]
    for place in [
        f"{other}/a.parquet",
        f"{other}/none.parquet",
        f"{other}/*.parquet",
        f"{allowed}/../other/a.parquet",
        f"{allowed}/link.parquet",
        f"{allowed}/folder/a.parquet",
        f"{allowed}/*.parquet",
        "s3://lake/a.parquet",
        "http://169.254.169.254/latest/meta-data/x.csv",
    ]:
        refused(shell(cluster, f"select * from '{place}'"), "this server may not read ", "--allow-location")
    external = f"create external table x (v int) stored as csv location '{other}/'"
    refused(shell(cluster, external), "this server may not read ")
