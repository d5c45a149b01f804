"""TPC-H at scale 0.1 gives the same rows from every store as from local files, whose answers `hwacha demo` checks."""

import pathlib

import pytest
from adbc_driver_flightsql import dbapi

from conftest import DEADLINES, STORES
from processes import Cluster, hwacha
from stores import config

QUERIES = pathlib.Path(__file__).parents[2] / "workloads" / "queries" / "tpch"
TABLES = ["lineitem", "orders", "partsupp", "part", "customer", "supplier", "nation", "region"]
SCALE = "0.1"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with the tables."""
    folder = tmp_path_factory.mktemp("tpch")
    done = hwacha("demo", "--scale", SCALE, "--data-dir", str(folder), seconds=300)
    assert done.returncode == 0 and "All 22 answers equal" in done.stdout, done.stdout + done.stderr
    return folder / f"tpch-{SCALE}"


@pytest.fixture(scope="module")
def filled(files, stores):
    """The stores with the tables in them."""
    for name in STORES:
        for table in TABLES:
            stores(name).put(f"tpch/{table}.parquet", (files / f"{table}.parquet").read_bytes())
    return {name: stores(name) for name in STORES}


@pytest.fixture(scope="module")
def connection(filled, tmp_path_factory):
    """A connection to a cluster that reads all stores."""
    folder = tmp_path_factory.mktemp("stores")
    sections = config(folder, *(store.section(folder) for store in filled.values()))
    cluster = Cluster(folder, scheduler_flags=("--config", str(sections)))
    with dbapi.connect(cluster.url, db_kwargs=DEADLINES, autocommit=True) as connection:
        yield connection
    cluster.stop()


def answers(connection, root):
    """The rows of each query on the tables below a location, in an order of their own."""
    found = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            place = f"{root}/{table}.parquet"
            cursor.execute(f"create or replace external table {table} stored as parquet location '{place}'")
        for number in range(1, 23):
            cursor.execute((QUERIES / f"q{number}.sql").read_text())
            found[number] = sorted(cursor.fetchall(), key=str)
    return found


@pytest.fixture(scope="module")
def local(connection, files):
    return answers(connection, files)


@pytest.mark.parametrize("name", STORES)
def test_all_queries_give_the_rows_of_local_files(connection, filled, local, name):
    found = answers(connection, f"{filled[name].url}/tpch")
    for number, expected in local.items():
        assert expected and found[number] == expected, f"query {number}"
