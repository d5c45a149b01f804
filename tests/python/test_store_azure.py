"""Tables in Azure: what only this store has."""

import datetime

import pyarrow as pa
import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

from answers import embedded, refused, rows, rows_of
from stores import Secret
from stores.azure import ACCOUNT, KEY

# A key of the right form, which nobody has.
WRONG_KEY = "bm9ib2R5" * 10 + "bm9ib2Q="
QUERY = "select count(*), sum(v) from '{}/own/*.parquet'"


@pytest.fixture(scope="module")
def box(stores):
    box = stores("azure")
    box.put_table("own/a.parquet", pa.table({"v": [1, 2, 3]}))
    box.put_table("own/b.parquet", pa.table({"v": [4]}))
    return box


def token(box):
    """A signed token that allows reading and listing for an hour."""
    until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    rights = ContainerSasPermissions(read=True, list=True)
    return generate_container_sas(ACCOUNT, box.container.container_name, account_key=KEY, permission=rights, expiry=until)


@pytest.mark.parametrize("url", ["az://box", "azure://box", "abfs://box", "abfss://box"])
def test_one_section_is_for_all_schemes(box, new_cluster, tmp_path, url):
    cluster = new_cluster(scheduler_flags=("--config", str(box.config(tmp_path))))
    assert rows(cluster, QUERY.format(url)) == ["4,10"]


@pytest.mark.parametrize("host", ["dfs.core.windows.net", "blob.core.windows.net"])
def test_the_account_may_stand_in_the_location(box, new_cluster, tmp_path, host):
    url = f"abfss://box@{ACCOUNT}.{host}"
    cluster = new_cluster(scheduler_flags=("--config", str(box.config(tmp_path, location=url, account=None))))
    assert rows(cluster, QUERY.format(url)) == ["4,10"]


def test_the_key_may_come_from_the_environment(box, tmp_path):
    config = box.config(tmp_path, account_key=None)
    config.write_text(config.read_text() + 'account_key = { env = "BOX_KEY" }\n')
    assert rows_of(embedded(config, QUERY.format(box.url), environment={"BOX_KEY": KEY})) == ["4,10"]
    refused(embedded(config, QUERY.format(box.url)), "the environment variable BOX_KEY is not set")


def test_a_signed_token_is_enough(box, tmp_path):
    config = box.config(tmp_path, account_key=None, sas_token=Secret(token(box)))
    assert rows_of(embedded(config, QUERY.format(box.url))) == ["4,10"]


@pytest.mark.parametrize("variable", ["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_TOKEN", "AZURE_STORAGE_ENDPOINT"])
@pytest.mark.parametrize("kind", ["key", "token"])
def test_the_section_of_a_location_counts_before_the_environment(box, tmp_path, kind, variable):
    other = {"AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:1"}.get(variable, WRONG_KEY)
    changes = {"token": {"account_key": None, "sas_token": Secret(token(box))}}.get(kind, {})
    config = box.config(tmp_path, **changes)
    assert rows_of(embedded(config, QUERY.format(box.url), environment={variable: other})) == ["4,10"]


@pytest.mark.parametrize("place", ["own/a.parquet", "own/*.parquet"])
def test_a_wrong_key_is_said_in_a_sentence(box, tmp_path, place):
    wrong = box.config(tmp_path, account_key=Secret(WRONG_KEY))
    done = embedded(wrong, f"select * from 'az://box/{place}'")
    refused(done, "az://box/own", "the configured credentials", '[storage."az://box"]')


def test_a_key_that_is_none_is_said_in_a_sentence(box, tmp_path):
    broken = box.config(tmp_path, account_key=Secret("no key?"))
    refused(embedded(broken, QUERY.format(box.url)), "az://box", "account_key")


@pytest.mark.parametrize("place", ["own/a.parquet", "own/*.parquet"])
def test_an_absent_container_is_said_in_a_sentence(box, tmp_path, place):
    absent = box.config(tmp_path, location="az://absent")
    refused(embedded(absent, f"select * from 'az://absent/{place}'"), "there is no bucket az://absent")


def test_an_endpoint_where_nobody_answers(box, tmp_path):
    nobody = box.config(tmp_path, endpoint="http://127.0.0.1:1/account", retry_timeout=2)
    refused(embedded(nobody, QUERY.format(box.url), seconds=20), "az://box/own", "Connection refused")
