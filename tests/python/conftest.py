"""Fixtures: one cluster that tests share, and new clusters for tests that stop processes or need other flags."""

import itertools

import pytest
from adbc_driver_flightsql import DatabaseOptions, dbapi

from processes import Cluster
from stores.azure import Azure
from stores.gcs import Gcs
from stores.hdfs import Hdfs
from stores.s3 import S3
from stores.web import Web

numbers = itertools.count()

# Seconds that a call waits for the server. A call that hangs fails its test instead of stopping the whole run.
CALL_SECONDS = 120
DEADLINES = {
    option.value: str(CALL_SECONDS)
    for option in (DatabaseOptions.TIMEOUT_FETCH, DatabaseOptions.TIMEOUT_QUERY, DatabaseOptions.TIMEOUT_UPDATE)
}


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.stop()


@pytest.fixture
def new_cluster(tmp_path):
    """Makes clusters that no other test uses."""
    made = []

    def make(**options):
        folder = tmp_path / f"cluster-{len(made)}"
        folder.mkdir()
        made.append(Cluster(folder, **options))
        return made[-1]

    yield make
    for cluster in made:
        cluster.stop()


STORES = {"s3": S3, "azure": Azure, "gcs": Gcs, "hdfs": Hdfs, "http": Web}


@pytest.fixture(scope="session")
def stores():
    """Starts the store of a name when a test first asks for it."""
    started = {}

    def start(name):
        if name not in started:
            started[name] = STORES[name]()
        return started[name]

    yield start
    for store in started.values():
        store.stop()


@pytest.fixture
def connect(cluster):
    """Opens connections to the shared cluster, and closes them at the end."""
    opened = []

    def open_one(**options):
        opened.append(dbapi.connect(cluster.url, db_kwargs={**DEADLINES, **options}, autocommit=True))
        return opened[-1]

    yield open_one
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def cursor(connection):
    with connection.cursor() as cursor:
        yield cursor


@pytest.fixture
def name():
    """A table name that no other test uses."""
    return f"py_{next(numbers)}"
