"""docker/compose.yaml: what the README says about it is there, and its configuration works on an S3 server."""

import json
import pathlib
import re
import tomllib

import boto3
import pyarrow as pa
import pyarrow.parquet
import pytest
import yaml
from moto.server import ThreadedMotoServer

from processes import hwacha

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "docker"
CONFIG = FOLDER / "compose" / "hwacha.toml"


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())


def ours(compose):
    return {name: service for name, service in compose["services"].items() if "HWACHA_IMAGE" in service["image"]}


def test_services_are_those_of_a_cluster(compose):
    assert set(ours(compose)) == {"scheduler", "executor", "tpch"}
    assert set(compose["services"]) == {*ours(compose), "store", "bucket"}
    volumes = [volume for service in compose["services"].values() for volume in service.get("volumes", [])]
    sources = {volume.split(":")[0] for volume in volumes}
    assert sources == {*compose["volumes"], "./compose/hwacha.toml", "./compose/s3.json"}
    for service in compose["services"].values():
        assert service.get("build") or re.fullmatch(r".+[:}][\w.]*", service["image"])
        for volume in service.get("volumes", []):
            assert not volume.startswith("./") or (FOLDER / volume.split(":")[0]).is_file()
    build = compose["services"]["scheduler"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).resolve() == FOLDER / "Dockerfile"


def test_executors_can_be_scaled(compose):
    executor = compose["services"]["executor"]
    assert "container_name" not in executor and "ports" not in executor and "volumes" not in executor
    # Each container announces its own address.
    assert "--advertise" not in executor["command"] and "HWACHA_ADVERTISE" not in executor["environment"]
    grace = int(executor["stop_grace_period"].removesuffix("s"))
    (default,) = re.findall(r"--drain-timeout.*?\[default: (\d+)\]", hwacha("executor", "--help").stdout, re.DOTALL)
    assert grace > int(default)


def test_containers_are_closed_and_loopback_alone_reaches_the_scheduler(compose):
    for name, service in ours(compose).items():
        assert service["read_only"] and service["cap_drop"] == ["ALL"], name
    assert [port.split(":")[0] for port in compose["services"]["scheduler"]["ports"]] == ["127.0.0.1"]


def test_services_start_in_order(compose):
    waits = {
        (name, other): condition["condition"]
        for name, service in compose["services"].items()
        for other, condition in service.get("depends_on", {}).items()
    }
    assert waits == {
        ("scheduler", "bucket"): "service_completed_successfully",
        ("executor", "scheduler"): "service_healthy",
        ("bucket", "store"): "service_healthy",
        ("bucket", "tpch"): "service_completed_successfully",
    }


def test_flags_are_those_of_the_binary(compose):
    for role in ["scheduler", "executor", "tpch"]:
        service = compose["services"][role]
        words = " ".join(service["command"]).split()
        command = "demo" if role == "tpch" else role
        help_text = hwacha(command, "--help").stdout
        given = [word for word in words if word.startswith("--")]
        assert command in words and given and all(f"{flag} " in help_text for flag in given), role


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_the_readme_has_the_commands_of_the_file(readme):
    commands = re.findall(r"^#   (docker compose .*)$", (FOLDER / "compose.yaml").read_text(), re.MULTILINE)
    assert len(commands) == 2
    text = (ROOT / readme).read_text()
    assert all(command in text for command in commands)


def test_keys_are_the_same_everywhere(compose):
    (identity,) = json.loads((FOLDER / "compose" / "s3.json").read_text())["identities"]
    (credentials,) = identity["credentials"]
    keys = [credentials["accessKey"], credentials["secretKey"]]
    bucket = compose["services"]["bucket"]["environment"]
    assert [bucket["AWS_ACCESS_KEY_ID"], bucket["AWS_SECRET_ACCESS_KEY"]] == keys
    for role in ["scheduler", "executor"]:
        environment = compose["services"][role]["environment"]
        assert [environment["LAKE_KEY_ID"], environment["LAKE_SECRET"]] == keys
    (section,) = tomllib.loads(CONFIG.read_text())["storage"].values()
    assert section["endpoint"] == bucket["AWS_ENDPOINT_URL"]


def test_the_configuration_reads_the_bucket(compose, new_cluster, monkeypatch, tmp_path):
    environment = compose["services"]["executor"]["environment"]
    for name in ["LAKE_KEY_ID", "LAKE_SECRET"]:
        monkeypatch.setenv(name, environment[name])
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
        client = boto3.client("s3", endpoint_url=endpoint, **keys)
        client.create_bucket(Bucket="tpch")
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(pa.table({"l_orderkey": range(1000)}), sink)
        client.put_object(Bucket="tpch", Key="lineitem.parquet", Body=sink.getvalue().to_pybytes())
        config = tmp_path / "hwacha.toml"
        config.write_text(CONFIG.read_text().replace("http://store:8333", endpoint))
        cluster = new_cluster(executors=3, scheduler_flags=("--config", str(config)), allowed="")
        (statement,) = re.findall(r'hwacha sql -c "(.*)"', (FOLDER / "compose.yaml").read_text())
        answer = hwacha("sql", "--url", cluster.url, "--format", "csv", "--quiet", "-c", statement)
        assert answer.stdout.split() == ["count(*)", "1000"], answer.stderr
    finally:
        server.stop()
