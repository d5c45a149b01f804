"""Tables on HTTP servers, whatever they tell about their files."""

import pyarrow as pa
import pytest

from answers import embedded, refused, rows_of
from stores import config
from stores.web import Web


@pytest.fixture
def serve():
    """Starts HTTP servers."""
    servers = []

    def start(kind):
        servers.append(Web(kind))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("kind", ["strong", "weak", "bare", "slow"])
def test_an_http_server_whatever_it_tells_about_its_file(serve, tmp_path, kind):
    web = serve(kind)
    web.put("d/x.csv", b"a,b\n" + b"".join(b"%d,text\n" % number for number in range(20000)))
    # The slow answer takes 2.8 s, longer than `request_timeout`, but pauses for only 0.4 s.
    limits = web.config(tmp_path, request_timeout=2, retry_timeout=2)
    done = embedded(limits, f"select count(*), sum(a) from '{web.url}/d/x.csv'")
    assert rows_of(done) == ["20000,199990000"]


def test_files_of_two_hosts_with_one_path_are_told_apart(serve, tmp_path):
    servers = [serve("bare"), serve("bare")]
    for value, web in zip([111, 222], servers):
        web.put_table("d/x.parquet", pa.table({"a": [value]}))
    sql = [f"select max(a) from '{web.url}/d/x.parquet' where a > 1" for web in servers]
    assert rows_of(embedded(config(tmp_path), *sql))[-1] == "222"


def test_a_missing_file_of_an_http_server(serve, tmp_path):
    web = serve("strong")
    done = embedded(config(tmp_path), f"select * from '{web.url}/none.parquet'")
    refused(done, f"the file {web.url}/none.parquet does not exist")
