"""Tables in S3: what only this store has."""

import pyarrow as pa
import pytest

from answers import embedded, refused, rows, shell
from stores import config


@pytest.fixture(scope="module")
def lake(stores):
    lake = stores("s3")
    lake.put_table("own/v.parquet", pa.table({"v": [1, 2, 3]}))
    return lake


def test_both_schemes_are_one_store(lake, new_cluster, tmp_path):
    cluster = new_cluster(scheduler_flags=("--config", str(lake.config(tmp_path))))
    assert rows(cluster, "select sum(v) from 's3a://lake/own/*.parquet'") == ["6"]
    assert rows(cluster, "select sum(v) from 's3://lake/own/*.parquet'") == ["6"]


def test_an_executor_with_a_configuration_of_its_own(lake, new_cluster, tmp_path):
    # The executor's section for the same location wins, so nobody answers at its endpoint.
    wrong = lake.config(tmp_path, endpoint="http://127.0.0.1:1", retry_timeout=2)
    flags = {"scheduler_flags": ("--config", str(lake.config(tmp_path)))}
    cluster = new_cluster(executors=1, executor_flags={"--config": str(wrong)}, **flags)
    refused(shell(cluster, "select count(*), sum(v) from 's3://lake/own/'"), "s3://lake/own/", "Connection refused")


def test_what_is_wrong_with_a_bucket_is_said_in_a_sentence(lake, tmp_path):
    other = lake.config(tmp_path, location="s3://nobucket")
    refused(embedded(other, "select * from 's3://nobucket/x.parquet'"), "there is no bucket s3://nobucket")
    nobody = lake.config(tmp_path, endpoint="http://127.0.0.1:1", retry_timeout=2)
    sentence = "s3://lake/x.parquet cannot be read: Connection refused"
    refused(embedded(nobody, "select * from 's3://lake/x.parquet'"), sentence)


def test_listings_of_two_buckets_are_told_apart(lake, new_cluster, tmp_path):
    lake.client.create_bucket(Bucket="second")
    lake.put_table("same/v.parquet", pa.table({"v": [1]}))
    lake.client.copy_object(Bucket="second", Key="same/other.parquet", CopySource="lake/own/v.parquet")
    both = config(tmp_path, lake.section(tmp_path), lake.section(tmp_path, location="s3://second"))
    cluster = new_cluster(scheduler_flags=("--config", str(both), "--listing-ttl", "600"))
    assert rows(cluster, "select count(*) from 's3://lake/same/'") == ["1"]
    assert rows(cluster, "select count(*) from 's3://second/same/'") == ["3"]
