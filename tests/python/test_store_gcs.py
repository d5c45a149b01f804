"""Tables in Google Cloud Storage: what only this store has."""

import pyarrow as pa
import pytest

from answers import embedded, refused, rows_of
from stores import Secret
from stores.gcs import ServiceAccount

ANONYMOUS = {"service_account_key": None, "anonymous": True}
QUERY = "select count(*), sum(v) from '{}/own/*.parquet'"


@pytest.fixture(scope="module")
def bucket(stores):
    bucket = stores("gcs")
    for number in range(10):
        bucket.put_table(f"own/{number}.parquet", pa.table({"v": [number]}))
    bucket.buckets[bucket.public] |= bucket.buckets["bucket"]
    return bucket


def test_both_schemes_are_one_store(bucket, tmp_path):
    section = bucket.config(tmp_path)
    assert rows_of(embedded(section, QUERY.format("gs://bucket"))) == ["10,45"]
    assert rows_of(embedded(section, QUERY.format("gcs://bucket"))) == ["10,45"]


def test_anonymous_requests_read_what_is_public(bucket, tmp_path):
    public = bucket.config(tmp_path, location=bucket.public_url, **ANONYMOUS)
    assert rows_of(embedded(public, QUERY.format(bucket.public_url))) == ["10,45"]


@pytest.mark.parametrize("place, action", [("own/1.parquet", "read"), ("own/*.parquet", "listed")])
def test_anonymous_requests_read_nothing_else(bucket, tmp_path, place, action):
    done = embedded(bucket.config(tmp_path, **ANONYMOUS), f"select * from 'gs://bucket/{place}'")
    refused(done, "gs://bucket/own", f"may not be {action} by anonymous requests")


def test_a_key_may_name_its_server_and_have_no_tokens(bucket, tmp_path):
    key = bucket.account.json(gcs_base_url=bucket.endpoint, disable_oauth=True)
    changes = {"endpoint": None, "service_account_key": Secret(key)}
    public = bucket.config(tmp_path, location=bucket.public_url, **changes)
    assert rows_of(embedded(public, QUERY.format(bucket.public_url))) == ["10,45"]


@pytest.mark.parametrize("variable", ["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_KEY", "GOOGLE_APPLICATION_CREDENTIALS"])
def test_the_section_of_a_location_counts_before_the_environment(bucket, tmp_path, variable):
    other = ServiceAccount("other").json()
    path = tmp_path / "other.json"
    path.write_text(other)
    value = other if variable.endswith("KEY") else str(path)
    done = embedded(bucket.config(tmp_path), QUERY.format("gs://bucket"), environment={variable: value})
    assert rows_of(done) == ["10,45"]


def test_a_key_of_the_default_chain(bucket, tmp_path):
    path = tmp_path / "key.json"
    path.write_text(bucket.account.json())
    section = bucket.config(tmp_path, service_account_key=None)
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(path)}
    assert rows_of(embedded(section, QUERY.format("gs://bucket"), environment=environment)) == ["10,45"]


@pytest.mark.parametrize("place", ["own/1.parquet", "own/*.parquet"])
def test_a_wrong_key_is_said_in_a_sentence(bucket, tmp_path, place):
    wrong = bucket.config(tmp_path, service_account_key=Secret(ServiceAccount().json()))
    done = embedded(wrong, f"select * from 'gs://bucket/{place}'")
    refused(done, "gs://bucket/own", "the configured credentials", '[storage."gs://bucket"]')


def test_a_key_that_is_none_is_said_in_a_sentence(bucket, tmp_path):
    broken = bucket.config(tmp_path, service_account_key=Secret("{}"))
    refused(embedded(broken, QUERY.format("gs://bucket")), "gs://bucket", "service_account_key")


@pytest.mark.parametrize("place", ["own/1.parquet", "own/*.parquet"])
def test_an_absent_bucket_is_said_in_a_sentence(bucket, tmp_path, place):
    absent = bucket.config(tmp_path, location="gs://absent")
    refused(embedded(absent, f"select * from 'gs://absent/{place}'"), "there is no bucket gs://absent")


def test_an_endpoint_where_nobody_answers(bucket, tmp_path):
    nobody = bucket.config(tmp_path, endpoint="http://127.0.0.1:1", retry_timeout=2)
    refused(embedded(nobody, QUERY.format("gs://bucket"), seconds=20), "gs://bucket/own", "Connection refused")
