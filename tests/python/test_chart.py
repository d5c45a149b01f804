"""The Helm chart: it is linted and rendered with values for several clusters, Kubernetes' schemas accept the objects,
the binary accepts its flags and configuration, and values that contradict each other are refused."""

import json
import pathlib
import re

import kubernetes_validate
import pytest
import yaml
from helm_python.chart import Chart, lint
from helm_python.errors import HelmError

from processes import Process, hwacha

CHART = pathlib.Path(__file__).parents[2] / "docker" / "helm" / "hwacha"
VALUES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((CHART / "ci").glob("*.yaml"))}
CASES = pytest.mark.parametrize("values", [None, *VALUES.values()], ids=["default", *VALUES])
# The oldest version that the chart allows, and the newest that the package knows.
VERSIONS = ["1.27", kubernetes_validate.latest_version()]
ERROR = 3
# The chart sets these flags itself. The files of its values set the others, in `settings`.
OWN_FLAGS = {
    "scheduler": {"config", "listen", "allow-remote", "allow-location", "data-dir"},
    "executor": {
        *("config", "listen", "allow-remote", "scheduler", "advertise", "memory-limit", "spill-dir", "spill-limit"),
        *("drain-timeout", "cache-dir", "cache-limit"),
    },
}


@pytest.fixture(scope="module")
def chart():
    with Chart.load(CHART) as chart:
        yield chart


def rendered(chart, values):
    """The objects by kind and name."""
    texts = chart.render(values=values, name="test", namespace="lake").items()
    parts = [part for path, text in texts if path.endswith(".yaml") for part in yaml.safe_load_all(text)]
    objects = {(part["kind"], part["metadata"]["name"]): part for part in parts if part}
    assert len(objects) == len([part for part in parts if part]), "two objects have one name"
    return objects


def of_kind(objects, kind):
    return [part for (its_kind, _), part in objects.items() if its_kind == kind]


def pods(objects):
    """The templates of the pods, by their role."""
    templates = [part["spec"]["template"] for part in of_kind(objects, "StatefulSet")]
    return {template["metadata"]["labels"]["app.kubernetes.io/component"]: template for template in templates}


def container(objects, role):
    (container,) = pods(objects)[role]["spec"]["containers"]
    return container


@CASES
def test_lint_finds_nothing(values):
    report = lint(CHART, values=values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] >= ERROR] == []


@CASES
@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_accepts_the_objects(chart, values, version):
    checked, unknown = 0, []
    for part in rendered(chart, values).values():
        try:
            kubernetes_validate.validate(part, version, strict=True)
            checked += 1
        except kubernetes_validate.SchemaNotFoundError as error:
            unknown.append(error.kind)
    # KEDA's object is no part of Kubernetes.
    assert unknown == (["ScaledObject"] if values == VALUES["keda"] else [])
    assert checked >= 5


@CASES
def test_selectors_find_the_pods(chart, values):
    objects = rendered(chart, values)
    labels = [template["metadata"]["labels"] for template in pods(objects).values()]
    assert len(labels) == 2
    selectors = [part["spec"]["selector"] for part in of_kind(objects, "Service")]
    for kind in ["StatefulSet", "PodDisruptionBudget"]:
        selectors += [part["spec"]["selector"]["matchLabels"] for part in of_kind(objects, kind)]
    selectors += [part["spec"]["podSelector"]["matchLabels"] for part in of_kind(objects, "NetworkPolicy")]
    assert len(selectors) >= 4
    for selector in selectors:
        assert sum(selector.items() <= own.items() for own in labels) == 1, selector
    names = {part["metadata"]["name"] for part in of_kind(objects, "StatefulSet")}
    for kind in ["HorizontalPodAutoscaler", "ScaledObject"]:
        assert all(part["spec"]["scaleTargetRef"]["name"] in names for part in of_kind(objects, kind))


def flags(role):
    return set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", hwacha(role, "--help").stdout, re.MULTILINE)) - {"help"}


@pytest.mark.parametrize("role", OWN_FLAGS)
def test_every_flag_can_be_set_and_no_other(chart, role):
    schema = json.loads((CHART / "values.schema.json").read_text())
    settings = set(schema["properties"][role]["properties"]["settings"]["properties"])
    assert flags(role) - OWN_FLAGS[role] == settings, "the settings in values.schema.json are the flags of the binary"
    for values in [None, *VALUES.values()]:
        given = {re.match("--([a-z-]+)", flag)[1] for flag in container(rendered(chart, values), role)["args"][1:]}
        assert given <= flags(role)


def with_own_places(objects, role, folder, **places):
    """The arguments of a role with places of this machine, and the configuration that its pod has."""
    config = folder / f"{role}.toml"
    (text,) = [part["data"][f"{role}.toml"] for part in of_kind(objects, "ConfigMap")]
    config.write_text(text)
    places |= {"config": config, "listen": "127.0.0.1:0"}
    own = [f"--{flag}={places[flag]}" for flag in places]
    theirs = [flag for flag in container(objects, role)["args"] if flag[2:].split("=")[0] not in places]
    return [*theirs, *own]


@CASES
def test_the_processes_start_with_their_flags_and_configuration(chart, values, tmp_path):
    objects = rendered(chart, values)
    scheduler = Process(*with_own_places(objects, "scheduler", tmp_path, **{"data-dir": tmp_path / "data"}))
    places = {"scheduler": f"http://{scheduler.address}", "spill-dir": tmp_path / "spill", "spill-limit": "1GiB"}
    flags = with_own_places(objects, "executor", tmp_path, **places)
    executor = Process(*[flag for flag in flags if not flag.startswith("--advertise=")])
    try:
        assert "42" in hwacha("sql", "--url", f"grpc://{scheduler.address}", "-c", "select 42").stdout
        assert executor.stop() == 0
    finally:
        executor.kill()
        scheduler.kill()


@CASES
def test_pods_are_closed(chart, values):
    for role, template in pods(rendered(chart, values)).items():
        assert template["spec"]["securityContext"]["runAsNonRoot"], role
        assert not template["spec"]["automountServiceAccountToken"], role
        (container,) = template["spec"]["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"], role
        mounts = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
        assert mounts and all(path.startswith("/var/lib/hwacha") for path in mounts), role
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
            assert container[probe]["grpc"] == {"port": 50050, "service": "ready" if "readiness" in probe else "live"}


@CASES
def test_executors_have_time_to_drain(chart, values):
    objects = rendered(chart, values)
    (drain,) = [flag for flag in container(objects, "executor")["args"] if flag.startswith("--drain-timeout=")]
    assert pods(objects)["executor"]["spec"]["terminationGracePeriodSeconds"] > int(drain.split("=")[1]) + 5


def test_values_arrive(chart):
    objects = rendered(chart, VALUES["lake"])
    (config,) = of_kind(objects, "ConfigMap")
    assert 'secret_access_key = { env = "PARTNER_SECRET" }' in config["data"]["scheduler.toml"]
    for role in OWN_FLAGS:
        template = pods(objects)[role]
        mounts = {mount["mountPath"] for mount in container(objects, role)["volumeMounts"]}
        assert "/etc/hwacha/secrets/partner" in mounts
        assert "PARTNER_SECRET" in {variable["name"] for variable in container(objects, role)["env"]}
        assert template["metadata"]["labels"]["team"] == "data"
    executor = objects["StatefulSet", "lake-executor"]["spec"]
    assert "replicas" not in executor, "the autoscaler sets the number"
    assert [claim["metadata"]["name"] for claim in executor["volumeClaimTemplates"]] == ["spill"]
    (account,) = of_kind(objects, "ServiceAccount")
    assert account["metadata"]["annotations"] == VALUES["lake"]["serviceAccount"]["annotations"]
    assert rendered(chart, None)["StatefulSet", "test-executor"]["spec"]["replicas"] == 3


def test_the_cache_has_a_volume(chart):
    cache = {"enabled": True, "size": "10Gi"}
    objects = rendered(chart, {"executor": {"cache": cache}})
    flags = container(objects, "executor")["args"]
    assert "--cache-dir=/var/lib/hwacha/cache" in flags and f"--cache-limit={9 << 30}" in flags
    claims = objects["StatefulSet", "test-executor"]["spec"]["volumeClaimTemplates"]
    assert [claim["metadata"]["name"] for claim in claims] == ["cache"]
    objects = rendered(chart, {"executor": {"cache": {**cache, "persistent": False}}})
    volumes = {volume["name"]: volume for volume in pods(objects)["executor"]["spec"]["volumes"]}
    assert volumes["cache"]["emptyDir"] == {"sizeLimit": "10Gi"}
    assert "volumeClaimTemplates" not in objects["StatefulSet", "test-executor"]["spec"]


SECTION = {"s3://lake": {"access_key_id": {"file": "/etc/hwacha/secrets/lake/id"}}}
VARIABLE = {"s3://lake": {"secret_access_key": {"env": "LAKE_SECRET"}}}
CONTRADICTIONS = {
    "no limit": (
        {"executor": {"resources": {"limits": {"memory": None}}}},
        "executor.resources.limits.memory is not set, so an executor would take 60 % of its node's memory; set it, or "
        "set executor.memoryLimit",
    ),
    "memory": (
        {"executor": {"memoryLimit": "8GiB"}},
        "executor.memoryLimit is 8GiB, but the container has 8Gi (executor.resources.limits.memory); leave at least a "
        "fifth of it to memory that tasks do not count",
    ),
    "cores": (
        {"executor": {"settings": {"cores": 5}}},
        "executor.settings.cores is 5, but the container has 4 (executor.resources.limits.cpu); lower one or raise the "
        "other",
    ),
    "spill": (
        {"executor": {"spill": {"limit": "51GiB"}}},
        "executor.spill.limit is 51GiB, but the volume has 50Gi (executor.spill.size); lower one or raise the other",
    ),
    "class": (
        {"executor": {"spill": {"storageClass": "fast"}}},
        "executor.spill.storageClass is set, but the volume is a part of the node's disk; set "
        "executor.spill.persistent to true, or remove the class",
    ),
    "replicas": (
        {"autoscaling": {"enabled": True, "minReplicas": 11}},
        "autoscaling.minReplicas is 11, which is more than autoscaling.maxReplicas (10); lower one or raise the other",
    ),
    "no trigger": (
        {"autoscaling": {"enabled": True, "kind": "keda"}},
        "autoscaling.kind is keda, but autoscaling.kedaTriggers is empty; add a trigger, or set the kind to hpa",
    ),
    "trigger": (
        {"autoscaling": {"enabled": True, "kedaTriggers": [{"type": "cpu", "metadata": {}}]}},
        "autoscaling.kedaTriggers is set, but autoscaling.kind is hpa, which has no triggers; set the kind to keda, or "
        "remove the triggers",
    ),
    "request": (
        {"autoscaling": {"enabled": True}, "executor": {"resources": {"requests": {"cpu": None}}}},
        "autoscaling.cpuPercent is a share of executor.resources.requests.cpu, which is not set; set it",
    ),
    "open": (
        {"scheduler": {"service": {"type": "LoadBalancer"}}},
        "scheduler.service.type is LoadBalancer, and there is no authentication, so anyone could run SQL; name the "
        "allowed addresses in scheduler.service.loadBalancerSourceRanges",
    ),
    "ranges": (
        {"scheduler": {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}},
        "scheduler.service.loadBalancerSourceRanges is set, but a service of type ClusterIP ignores it; use "
        "networkPolicy.clients",
    ),
    "scheduler's class": (
        {"scheduler": {"persistence": {"enabled": False, "storageClass": "fast"}}},
        "scheduler.persistence.storageClass is set, but scheduler.persistence.enabled is false; set it to true, or "
        "remove the class",
    ),
    "clients": (
        {"networkPolicy": {"clients": []}},
        "networkPolicy.clients is empty, so no client could reach the scheduler; name a peer, or set "
        "networkPolicy.enabled to false",
    ),
    "account": (
        {"serviceAccount": {"create": False, "annotations": {"a": "b"}}},
        "serviceAccount.annotations is set, but serviceAccount.create is false, so nothing would get them; set it to "
        "true, or annotate the existing account",
    ),
    "root": (
        {"podSecurityContext": {"runAsUser": 0}},
        "podSecurityContext.runAsUser is 0, but podSecurityContext.runAsNonRoot is true, so no pod could start; name "
        "another user",
    ),
    "variable of the chart": (
        {"extraEnv": [{"name": "HWACHA_DRAIN_TIMEOUT", "value": "5"}]},
        "extraEnv sets HWACHA_DRAIN_TIMEOUT; set executor.drainSeconds instead",
    ),
    "secret": (
        {"storage": SECTION},
        "access_key_id of storage.s3://lake is in the Secret lake, which no pod sees; add it to secrets",
    ),
    "scheme": (
        {"storage": {"ftp://lake": {}}},
        "storage.ftp://lake has an unknown scheme; the schemes are s3, s3a, gs, az, abfs, abfss, http, https and hdfs",
    ),
    "variable": (
        {"storage": VARIABLE},
        "secret_access_key of storage.s3://lake is in the variable LAKE_SECRET, which no pod has; add it to extraEnv",
    ),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_contradictory_values_are_refused_with_one_sentence(chart, name):
    values, sentence = CONTRADICTIONS[name]
    with pytest.raises(HelmError) as refused:
        chart.render(values=values, name="test")
    place = re.search(r"hwacha/templates/validate.yaml:\d+:\d+", str(refused.value))[0]
    assert str(refused.value) == f"execution error at ({place}): {sentence}"


def test_sections_with_known_secrets_are_accepted(chart):
    rendered(chart, {"storage": SECTION, "secrets": ["lake"]})
    rendered(chart, {"storage": VARIABLE, "extraEnv": [{"name": "LAKE_SECRET", "value": "x"}]})
    rendered(chart, {"storage": VARIABLE, "extraEnvFrom": [{"secretRef": {"name": "lake"}}]})


UNKNOWN = {
    "misspelt": ({"executor": {"replica": 2}}, "/executor", "replica"),
    "two schedulers": ({"scheduler": {"replicas": 2}}, "/scheduler", "replicas"),
    "flag of the chart": ({"executor": {"settings": {"spill-dir": "/tmp"}}}, "/executor/settings", "spill-dir"),
    "no executor": ({"executor": {"replicas": 0}}, "/executor/replicas", "minimum"),
    "size": ({"executor": {"memoryLimit": "much"}}, "/executor/memoryLimit", "much"),
    "secret in the values": (
        {"storage": {"s3://lake": {"access_key_id": {"value": "x"}}}},
        *("/storage/s3:~1~1lake", "value"),
    ),
    "budget that blocks": (
        {"executor": {"disruptionBudget": {"maxUnavailable": 0}}},
        *("/executor/disruptionBudget", "minimum"),
    ),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_the_schema_names_the_wrong_value(chart, name):
    values, place, word = UNKNOWN[name]
    with pytest.raises(HelmError) as refused:
        chart.validate_schema(values)
    assert place in str(refused.value) and word in str(refused.value)
