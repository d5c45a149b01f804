"""Tables in object stores (S3 by moto, HTTP), and locations that a server may not read."""

import http.server
import io
import threading
import time

import boto3
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from moto.server import ThreadedMotoServer

from processes import hwacha

BUCKET = "lake"
KEY_ID, SECRET = "HWACHATESTKEYID", "hush-hush-this-is-the-secret"
CITIES = {2025: ["Seoul", "Busan"], 2026: ["Jeju", "Daegu", "Ulsan"]}


class Lake:
    """A bucket on an S3 server that runs in this process."""

    def __init__(self):
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key, table, write=pa.parquet.write_table):
        sink = pa.BufferOutputStream()
        write(table, sink)
        self.client.put_object(Bucket=BUCKET, Key=key, Body=sink.getvalue().to_pybytes())

    def config(self, folder, bucket=BUCKET, endpoint=None):
        """Writes a configuration file that names two files with secrets."""
        for name, secret in [("id", KEY_ID), ("secret", SECRET)]:
            (folder / name).write_text(secret + "\n")
        path = folder / "storage.toml"
        path.write_text(f"""
            [storage."s3://{bucket}"]
            endpoint = "{endpoint or self.endpoint}"
            allow_http = true
            retry_timeout = 2
            access_key_id = {{ file = "{folder / 'id'}" }}
            secret_access_key = {{ file = "{folder / 'secret'}" }}
        """)
        return path


@pytest.fixture(scope="module")
def lake():
    lake = Lake()
    number = 0
    for year, cities in CITIES.items():
        for city in cities:
            number += 1
            rows = pa.table({"city": [city] * 1000, "n": list(range(number * 1000, number * 1000 + 1000))})
            lake.put(f"cities/year={year}/{city}.parquet", rows)
    lake.put("cities/_SUCCESS", pa.table({"x": [1]}))
    lake.put("csv/a.csv", pa.table({"k": [1, 2], "t": ["x", "y"]}), pa.csv.write_csv)
    lake.put("csv/b.csv", pa.table({"k": [3], "t": ["z"]}), pa.csv.write_csv)
    lake.put("csv2/c.csv", pa.table({"k": [4], "t": ["w"]}), pa.csv.write_csv)
    lake.client.put_object(Bucket=BUCKET, Key="rows.ndjson", Body=b'{"a": 1}\n{"a": 2}\n')
    yield lake
    lake.server.stop()


@pytest.fixture
def reader(lake, new_cluster, tmp_path):
    """A cluster in which only the scheduler gets the configuration file."""
    return new_cluster(scheduler_flags=("--config", str(lake.config(tmp_path))))


def shell(cluster, *statements):
    commands = [part for statement in statements for part in ("-c", statement)]
    return hwacha("sql", "--url", cluster.url, "--format", "csv", "--quiet", *commands)


def rows(cluster, *statements):
    done = shell(cluster, *statements)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[1:]


def refused(done, *words):
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_every_format_and_shape_of_table_is_read(reader):
    url = f"s3://{BUCKET}"
    assert rows(reader, f"select count(*), sum(n) from '{url}/cities/year=2025/Seoul.parquet'") == ["1000,1499500"]
    assert rows(reader, f"select count(*) from '{url}/cities/year=2026/*.parquet'") == ["3000"]
    assert rows(reader, f"select year, count(*) from '{url}/cities/' group by year order by year") == [
        "2025,2000",
        "2026,3000",
    ]
    assert rows(reader, f"select sum(k), max(t) from 's3a://{BUCKET}/csv/*.csv'") == ["6,z"]
    assert rows(reader, f"select sum(a) from '{url}/rows.ndjson'") == ["3"]


def test_external_tables_with_partitions_and_several_locations(reader):
    url = f"s3://{BUCKET}"
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


def test_a_replaced_object_is_another_file(lake, reader):
    lake.put("replaced.parquet", pa.table({"v": [1, 2, 3]}))
    count = f"select sum(v) from 's3://{BUCKET}/replaced.parquet'"
    assert rows(reader, count) == ["6"]
    # The size is the same, and most likely the second of the modification too.
    lake.put("replaced.parquet", pa.table({"v": [4, 5, 6]}))
    assert rows(reader, count) == ["15"]


def test_the_shells_own_cluster_reads_it_too(lake, tmp_path):
    config = lake.config(tmp_path)
    sql = f"select count(*) from 's3://{BUCKET}/cities/'"
    done = hwacha("sql", "--config", str(config), "--format", "csv", "--quiet", "-c", sql)
    assert done.stdout.splitlines()[1:] == ["5000"], done.stderr


def test_an_executor_with_a_configuration_of_its_own(lake, new_cluster, tmp_path):
    (tmp_path / "wrong").mkdir()
    # The executor's own section overrides the scheduler's. No server is at its endpoint.
    wrong = lake.config(tmp_path / "wrong", endpoint="http://127.0.0.1:1")
    flags = {"scheduler_flags": ("--config", str(lake.config(tmp_path)))}
    cluster = new_cluster(executors=1, executor_flags={"--config": str(wrong)}, **flags)
    sql = f"select count(*), sum(n) from 's3://{BUCKET}/cities/'"
    refused(shell(cluster, sql), f"s3://{BUCKET}/cities/", "Connection refused")


def test_what_is_missing_is_said_in_a_sentence(lake, reader, tmp_path):
    refused(shell(reader, f"select * from 's3://{BUCKET}/none.parquet'"), f"s3://{BUCKET}/none.parquet")
    refused(shell(reader, f"select * from 's3://{BUCKET}/none/*.parquet'"), "no file matches")
    refused(shell(reader, "select * from 'ftp://host/x.parquet'"), "there is no store for ftp://", "hdfs")
    refused(shell(reader, "select * from 'az://box/x.parquet'"), "this server may not read az://box/x.parquet")
    other = lake.config(tmp_path, bucket="nobucket")
    done = hwacha("sql", "--config", str(other), "-c", "select * from 's3://nobucket/x.parquet'")
    refused(done, "there is no bucket s3://nobucket")
    nobody = lake.config(tmp_path, endpoint="http://127.0.0.1:1")
    done = hwacha("sql", "--config", str(nobody), "-c", f"select * from 's3://{BUCKET}/x.parquet'")
    refused(done, f"s3://{BUCKET}/x.parquet cannot be read: Connection refused")


def test_a_secret_is_in_no_log_plan_answer_or_catalog(lake, new_cluster, tmp_path):
    options = {"--config": str(lake.config(tmp_path)), "--log-filter": "debug"}
    flags = tuple(part for pair in options.items() for part in pair)
    cluster = new_cluster(scheduler_flags=flags, executor_flags={"--log-filter": "debug"})
    table = f"create external table c stored as parquet location 's3://{BUCKET}/cities/'"
    said = ""
    for sql in ["select count(*) from c", "explain analyze verbose select * from c", "show all", "select * from missing"]:
        done = shell(cluster, table.replace("table c", "table if not exists c"), sql)
        said += done.stdout + done.stderr
    for process in [cluster.scheduler, *cluster.executors]:
        process.stop()
        said += process.logged()
    said += "".join(path.read_text(errors="replace") for path in (cluster.folder / "data").rglob("*") if path.is_file())
    assert "count" in said and SECRET not in said and KEY_ID not in said


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


def test_a_query_reads_the_objects_that_were_listed_or_none(lake, new_cluster, tmp_path):
    flags = ("--config", str(lake.config(tmp_path)), "--listing-ttl", "600")
    cluster = new_cluster(scheduler_flags=flags)
    for name, write in [("v.parquet", pa.parquet.write_table), ("v.csv", pa.csv.write_csv)]:
        lake.put(f"listed-{name}/{name}", pa.table({"v": [1, 2, 3]}), write)
        count = f"select sum(v) from 's3://{BUCKET}/listed-{name}/'"
        assert rows(cluster, count) == ["6"]
        lake.put(f"listed-{name}/{name}", pa.table({"v": [4, 5, 6]}), write)
        # This text is not in the plan cache, but the listing with the old object is cached.
        again = shell(cluster, count.replace("sum(v)", "min(v), sum(v)"))
        refused(again, f"the file s3://{BUCKET}/listed-{name}/{name} has changed since the query began; run it again")


def test_listings_of_two_buckets_are_told_apart(lake, new_cluster, tmp_path):
    lake.client.create_bucket(Bucket="second")
    lake.put("same/v.parquet", pa.table({"v": [1]}))
    lake.client.copy_object(Bucket="second", Key="same/other.parquet", CopySource=f"{BUCKET}/cities/year=2025/Seoul.parquet")
    config = lake.config(tmp_path)
    config.write_text(config.read_text() + config.read_text().replace(f"s3://{BUCKET}", "s3://second"))
    cluster = new_cluster(scheduler_flags=("--config", str(config), "--listing-ttl", "600"))
    assert rows(cluster, f"select count(*) from 's3://{BUCKET}/same/'") == ["1"]
    assert rows(cluster, "select count(*) from 's3://second/same/'") == ["1000"]


class Files(http.server.BaseHTTPRequestHandler):
    """Serves ranges of one file. `kind` is the kind of its entity tag, `bare` (no tag and no time) or `slow`."""

    kind, file = "strong", b""

    def answer(self, with_body):
        if self.kind == "weak" and "If-Match" in self.headers:
            # A weak entity tag never matches `If-Match`.
            self.send_response(412)
            return self.end_headers()
        size = len(self.file)
        wanted = self.headers.get("Range", "").removeprefix("bytes=").split("-")
        first, last = int(wanted[0] or 0), int(wanted[-1] or size - 1)
        part = self.file[first : last + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{size}")
        self.send_header("Content-Length", str(len(part)))
        if self.kind != "bare":
            self.send_header("ETag", 'W/"tag"' if self.kind == "weak" else '"tag"')
            self.send_header("Last-Modified", "Sat, 28 Nov 2026 10:00:00 GMT")
        self.end_headers()
        pieces = 8 if self.kind == "slow" else 1
        for piece in range(pieces if with_body else 0):
            if piece:
                time.sleep(0.4)
            self.wfile.write(part[len(part) * piece // pieces : len(part) * (piece + 1) // pieces])

    def do_GET(self):
        self.answer(True)

    def do_HEAD(self):
        self.answer(False)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve():
    """Starts HTTP servers of one file each."""
    servers = []

    def start(kind, file):
        handler = type("Handler", (Files,), {"kind": kind, "file": file})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def embedded(folder, sections, *statements):
    """The last line of the shell's output, on its own cluster."""
    (folder / "http.toml").write_text(sections)
    commands = [part for statement in statements for part in ("-c", statement)]
    done = hwacha("sql", "--config", str(folder / "http.toml"), "--format", "csv", "--quiet", *commands)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("kind", ["strong", "weak", "bare", "slow"])
def test_an_http_server_whatever_it_tells_about_its_file(serve, tmp_path, kind):
    host = serve(kind, b"a,b\n" + b"".join(b"%d,text\n" % number for number in range(20000)))
    # The slow answer takes 2.8 s, longer than `request_timeout`, but pauses for only 0.4 s.
    limits = f'[storage."{host}"]\nrequest_timeout = 2\nretry_timeout = 2\n'
    assert embedded(tmp_path, limits, f"select count(*), sum(a) from '{host}/d/x.csv'") == "20000,199990000"


def test_files_of_two_hosts_with_one_path_are_told_apart(serve, tmp_path):
    def parquet(value):
        sink = io.BytesIO()
        pa.parquet.write_table(pa.table({"a": [value]}), sink)
        return sink.getvalue()

    one, other = serve("bare", parquet(111)), serve("bare", parquet(222))
    sql = [f"select max(a) from '{host}/d/x.parquet' where a > 1" for host in (one, other)]
    assert embedded(tmp_path, "", *sql) == "222"
