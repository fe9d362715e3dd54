"""What the API server refuses, and with which sentence. One row for each rule; each is applied as a person would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from tests.integration.operator.machine import Api, Place, RefusedError

from celeriac_operator.generate import crd, editor
from celeriac_operator.resource import MAX_NAME_LENGTH

EDITOR = jsonschema.Draft7Validator(editor.build())
GOLDEN = Path(__file__).parents[3] / "golden" / "operator"


@pytest.fixture(scope="module")
def shared(api: Api) -> Place:
    """One namespace for all rows: nothing is kept in it."""
    return Place(api=api, namespace="default")


KEY = {"secretKeyRef": {"name": "redis", "key": "url"}}


def refused(case: str, sentence: str, **spec: Any) -> Any:
    return pytest.param(spec, sentence, id=case)


RULES = [
    refused("app is missing", "spec.app: Required value", app=None),
    refused("image is missing", "spec.image: Required value", image=None),
    refused(
        "app is a path",
        'spec.app: Invalid value: "shop/celery.py": must be what celery -A takes: a module, or module:attribute, for '
        "example shop.celery:app",
        app="shop/celery.py",
    ),
    refused("app is empty", "must be what celery -A takes", app=""),
    refused("app is an option", "must be what celery -A takes", app="-A"),
    refused(
        "image has a space", "must be the name of a container image, for example registry.example/shop:1.4", image="a b"
    ),
    refused("image is empty", "must be the name of a container image", image=""),
    refused("inject is another word", 'supported values: "Always", "Never"', inject="Sometimes"),
    refused("replicas is negative", "spec.replicas in body should be greater than or equal to 0", replicas=-1),
    refused("replicas is enormous", "spec.replicas in body should be less than or equal to 10000", replicas=10_001),
    refused(
        "a queue without a name",
        'spec.queues[1]: Invalid value: "": the name of a queue cannot be empty',
        queues=["a", ""],
    ),
    refused(
        "a queue with a comma", "the name of a queue cannot contain a comma or a control character", queues=["a,b"]
    ),
    refused(
        "a queue with kombu's separator",
        "the name of a queue cannot contain a comma or a control",
        queues=["a\x06\x163"],
    ),
    refused("a queue named twice", '.spec.queues: duplicate entries for key [="a"]', queues=["a", "a"]),
    refused(
        "no program for Python", "must name the program that starts Python, for example [python]", worker={"python": []}
    ),
    refused("an empty word in the command", "a part of the command cannot be empty", worker={"python": [""]}),
    refused("a pool type that does not exist", 'supported values: "prefork", "threads"', worker={"pool": "fork"}),
    refused(
        "concurrency 0",
        "spec.worker.concurrency in body should be greater than or equal to 1",
        worker={"concurrency": 0},
    ),
    *(
        refused(
            f"{field} without child processes, on {pool}",
            "spec.worker.pool: Invalid value: maxTasksPerChild and maxMemoryPerChild replace child processes, which "
            "only prefork has: remove them, or set pool to prefork",
            worker={"pool": pool, field: value},
        )
        for pool in ("threads", "gevent", "eventlet", "solo")
        for field, value in (("maxTasksPerChild", 10), ("maxMemoryPerChild", "200Mi"))
    ),
    refused(
        "concurrency of a pool that has one slot",
        "spec.worker.concurrency: Invalid value: pool solo runs one task at a time: remove concurrency",
        worker={"pool": "solo", "concurrency": 2},
    ),
    refused("a negative prefetch", "should be greater than or equal to 0", worker={"prefetch": -1}),
    refused(
        "memory without a unit that is far too little",
        "must be a memory quantity of at least 1Mi, for example 200Mi",
        worker={"maxMemoryPerChild": 200},
    ),
    refused(
        "memory that is not a quantity",
        "must be a memory quantity of at least 1Mi",
        worker={"maxMemoryPerChild": "200MB"},
    ),
    *(
        refused(
            f"extraArgs repeats a field: {argument}",
            f"spec.worker.extraArgs: Invalid value: {argument}: repeats what a field of the pool sets: use app, "
            "queues, worker, timeLimits, broker, resultBackend or "
            "logging.level",
            worker={"extraArgs": ["--without-gossip", argument]},
        )
        for argument in (
            "-A",
            "-Qemails",
            "--queues=emails",
            "-c4",
            "--concurrency",
            "-EP",
            "--pool=solo",
            "--prefetch-multiplier=1",
            "--disable-prefetch",
            "--max-tasks-per-child=1",
            "--max-memory-per-child=1",
            "--soft-time-limit=1",
            "--time-limit=1",
            "-lDEBUG",
            "--loglevel",
            "-n",
            "--hostname=x",
            "-b",
            "--broker=x",
            "--result-backend=x",
            "--app=x",
        )
    ),
    refused(
        "extraArgs autoscale",
        "--autoscale changes the slots of a running worker",
        worker={"extraArgs": ["--autoscale=1,2"]},
    ),
    refused("extraArgs beat", "with --beat each worker would publish every schedule", worker={"extraArgs": ["-B"]}),
    refused(
        "extraArgs beat, joined", "with --beat each worker would publish every schedule", worker={"extraArgs": ["-EB"]}
    ),
    refused("extraArgs log file", "with --logfile kubectl logs would be empty", worker={"extraArgs": ["-f/tmp/x"]}),
    refused("extraArgs purge", "--purge would delete the waiting messages", worker={"extraArgs": ["--purge"]}),
    refused("extraArgs detach", "the worker must run in the foreground of its container", worker={"extraArgs": ["-D"]}),
    refused("both URLs of the broker", "set url or urlFrom, not both", broker={"url": "redis://r", "urlFrom": KEY}),
    refused(
        "both URLs of the results", "set url or urlFrom, not both", resultBackend={"url": "redis://r", "urlFrom": KEY}
    ),
    *(
        refused(
            f"a password in the clear: {url}",
            "contains a password, which everyone who may read the pool could see: put the URL into a Secret and use "
            "urlFrom.secretKeyRef",
            broker={"url": url},
        )
        for url in ("redis://:pw@r", "amqp://guest:guest@r//", "sentinel://a;sentinel://:pw@b", "redis://r?password=pw")
    ),
    refused(
        "a URL without a scheme",
        "must be a URL without spaces, for example redis://redis:6379/0",
        broker={"url": "redis"},
    ),
    *(
        refused(
            f"a URL of no {what}: {scheme}",
            f'spec.{field}.url: Invalid value: "{scheme}://redis/0": is not the URL of a {what} that Celery',
            **{field: {"url": f"{scheme}://redis/0"}},
        )
        for field, what, schemes in (
            (
                "broker",
                "broker",
                ("http", "https", "tcp", "unix", "redi", "redisss", "rediss0", "rabbitmq", "db+sqlite"),
            ),
            ("resultBackend", "result backend", ("http", "amqp", "postgresql", "memcached", "sqla+sqlite")),
        )
        for scheme in schemes
    ),
    refused(
        "a Secret without a key",
        "spec.broker.urlFrom.secretKeyRef.key: Required value",
        broker={"urlFrom": {"secretKeyRef": {"name": "r"}}},
    ),
    refused(
        "a Secret with an impossible name",
        "must be the name of a Kubernetes object: lower-case letters, digits, '-' and '.'",
        broker={"urlFrom": {"secretKeyRef": {"name": "My_Redis", "key": "url"}}},
    ),
    refused(
        "a Secret with an impossible key",
        "must be a key of the object's data: letters, digits, '-', '_' and '.'",
        broker={"urlFrom": {"secretKeyRef": {"name": "redis", "key": "the url"}}},
    ),
    refused(
        "back-off that starts above its end",
        "spec.broker.retryBackoffSeconds.initial: Invalid value: initial must be at most max",
        broker={"retryBackoffSeconds": {"initial": 31}},
    ),
    refused("a negative expiry", "should be greater than or equal to 0", resultBackend={"expiresSeconds": -1}),
    *(
        refused(
            f"soft {soft}, hard 300",
            "spec.timeLimits.softSeconds: Invalid value: softSeconds must be less than hardSeconds: the task needs "
            "time to clean up before it is killed",
            timeLimits={"softSeconds": soft, "hardSeconds": 300},
        )
        for soft in (300, 301)
    ),
    refused(
        "a limit of 0",
        "spec.timeLimits.hardSeconds in body should be greater than or equal to 1",
        timeLimits={"hardSeconds": 0},
    ),
    refused(
        "a delivery mode that does not exist",
        'supported values: "AtLeastOnce", "AtMostOnce", "App"',
        delivery={"mode": "ExactlyOnce"},
    ),
    refused("a lease that is too short", "should be greater than or equal to 5", delivery={"leaseSeconds": 4}),
    refused("no delivery at all", "should be greater than or equal to 1", delivery={"maxDeliveries": 0}),
    refused("a port that needs root", "should be greater than or equal to 1024", liveness={"port": 80}),
    refused("a probe without a period", "should be greater than or equal to 1", liveness={"periodSeconds": 0}),
    refused(
        "a drain shorter than a task",
        "spec.drain.timeoutSeconds: Invalid value: drain.timeoutSeconds must be at least timeLimits.hardSeconds",
        timeLimits={"hardSeconds": 300},
        drain={"timeoutSeconds": 299},
    ),
    refused("a level that does not exist", 'supported values: "DEBUG", "INFO"', logging={"level": "info"}),
    *(
        refused(
            f"{key} with format {form}",
            "spec.logging.format: Invalid value: workerFormat and taskFormat belong to format Text: remove them, or "
            "set format to Text",
            logging={"format": form, key: "%(message)s"},
        )
        for form in ("JSON", "App")
        for key in ("workerFormat", "taskFormat")
    ),
    *(
        refused(
            f"a format for no record: {text}",
            'spec.logging.taskFormat: Invalid value: "' + text + '": is not a format for log records: write fields in '
            "Python's %-style",
            logging={"taskFormat": text},
        )
        for text in ("%(task)s", "%(message)", "%(message)y", "%s", "100%", "%(taskname)s %(message)s", "%(message s")
    ),
    refused(
        "an empty format", "a log format cannot be empty: remove it to keep the default", logging={"taskFormat": ""}
    ),
    refused(
        "Sentry with two DSNs",
        "set dsnFrom, the Secret that holds the DSN, or dsn, not both",
        sentry={"dsn": "https://k@h/1", "dsnFrom": KEY},
    ),
    refused(
        "a malformed DSN",
        "is not a Sentry DSN: it looks like https://<key>@<host>/<project number>",
        sentry={"dsn": "https://h/1"},
    ),
    refused(
        "an environment with a slash",
        "is not a Sentry environment",
        sentry={"dsn": "https://k@h/1", "environment": "a/b"},
    ),
    refused(
        "an environment called None",
        "is not a Sentry environment",
        sentry={"dsn": "https://k@h/1", "environment": "None"},
    ),
    refused("notifications without a channel", "spec.notifications.slack: Required value", notifications={}),
    refused(
        "a channel without a webhook",
        "spec.notifications.slack.webhookFrom: Required value",
        notifications={"slack": {}},
    ),
    refused(
        "a webhook in the clear",
        ".spec.notifications.slack.webhook: field not declared in schema",
        notifications={"slack": {"webhook": "https://hooks.slack.example/services/T0/B0/x"}},
    ),
    refused("an empty release", "is not a Sentry release", sentry={"dsn": "https://k@h/1", "release": ""}),
    refused(
        "more than every task traced",
        "should be less than or equal to 1",
        sentry={"dsn": "https://k@h/1", "tracesSampleRate": 1.1},
    ),
    refused(
        "a surge that is not a percentage",
        "must be a number of workers, or a percentage from 0% to 100%",
        rollout={"maxSurge": "25"},
    ),
    refused(
        "more than all unavailable", "must be a number of workers, or a percentage", rollout={"maxUnavailable": "101%"}
    ),
    refused("a negative surge", "must be a number of workers, or a percentage", rollout={"maxSurge": -1}),
    *(
        refused(
            f"no worker could be replaced: {surge} and {unavailable}",
            "spec.rollout.maxSurge: Invalid value: maxSurge and maxUnavailable cannot both be 0",
            rollout={"maxSurge": surge, "maxUnavailable": unavailable},
        )
        for surge, unavailable in ((0, 0), ("0%", 0), (0, "0%"))
    ),
    *(
        refused(
            f"a budget with {len(limits)} limits",
            "spec.disruption: Invalid value: set exactly one of maxUnavailable and minAvailable",
            disruption=limits,
        )
        for limits in ({}, {"maxUnavailable": 1, "minAvailable": 1})
    ),
    *(
        refused(
            f"a budget whose {limit} is not a number",
            "must be a number of workers, or a percentage from 0% to 100%",
            disruption={limit: "half"},
        )
        for limit in ("maxUnavailable", "minAvailable")
    ),
    refused(
        "a limit that is not a quantity",
        'spec.resources.limits[cpu]: Invalid value: "two": must be a Kubernetes quantity',
        resources={"limits": {"cpu": "two"}},
    ),
    refused(
        "a negative request",
        "must be a Kubernetes quantity that is not negative",
        resources={"requests": {"cpu": "-1"}},
    ),
    refused(
        "a variable of the operator's",
        'spec.env[0].name: Invalid value: "CELERIAC_CONFIG": names that start with CELERIAC_ are reserved for the '
        "operator: use the pool's fields",
        env=[{"name": "CELERIAC_CONFIG", "value": "{}"}],
    ),
    refused(
        "a variable with an impossible name",
        "must be the name of an environment variable",
        env=[{"name": "1=2", "value": "x"}],
    ),
    refused(
        "a variable named twice",
        "duplicate entries for key",
        env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
    ),
    refused(
        "a variable with two values",
        "set value or valueFrom, not both",
        env=[{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    ),
    refused(
        "a variable from nowhere",
        "set exactly one of fieldRef, resourceFieldRef, configMapKeyRef and secretKeyRef",
        env=[{"name": "A", "valueFrom": {}}],
    ),
    refused("variables from nowhere", "set exactly one of configMapRef and secretRef", envFrom=[{"prefix": "A_"}]),
    refused(
        "a label that selects the pool's pods",
        "app.kubernetes.io/name and celeriac.dev/* select the pool's pods: use other labels",
        template={"metadata": {"labels": {"app.kubernetes.io/name": "x"}}},
    ),
    refused(
        "a label of the operator's",
        "use other labels",
        template={"metadata": {"labels": {"celeriac.dev/pool": "x"}}},
    ),
    refused(
        "an annotation of the operator's",
        "are reserved for the operator: use another name",
        template={"metadata": {"annotations": {"celeriac.dev/x": "y"}}},
    ),
    refused(
        "a label's value that none can have",
        "must be letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
        template={"metadata": {"labels": {"team": "mail & more"}}},
    ),
    refused(
        "a label's value that is too long",
        "Too long: may not be more than 63",
        template={"metadata": {"labels": {"team": "x" * 64}}},
    ),
    *(
        refused(
            f"an impossible name of {kind}: {name[:20]}",
            "a name is at most 63 letters, digits, '-', '_' and '.', starting and ending with a letter or digit",
            template={"metadata": {kind: {name: "x"}}},
        )
        for kind in ("labels", "annotations")
        for name in ("two words", "Example.com/team", "x" * 64, "")
    ),
    refused(
        "a field of the pod in the wrong place",
        ".spec.template.nodeSelector: field not declared in schema",
        template={"nodeSelector": {}},
    ),
    *(
        refused(
            f"a template whose worker has {field} of its own",
            "spec.template.spec.containers[1]: Invalid value: command and args of the worker's container start the "
            "worker, so a template cannot replace them: use worker.python for what starts Python",
            template={"spec": {"containers": [{"name": "proxy"}, {"name": "worker", field: ["sh"]}]}},
        )
        for field in ("command", "args")
    ),
    refused(
        "a template with a container without a name",
        "spec.template.spec.containers[0].name: Required value",
        template={"spec": {"containers": [{"image": "x"}]}},
    ),
    *(
        refused(
            f"a template whose {field} has another type",
            f"spec.template.spec.{field}",
            template={"spec": {field: value}},
        )
        for field, value in (
            ("tolerations", {"a": "b"}),
            ("tolerations", "a"),
            ("nodeSelector", ["a"]),
            ("containers", {"name": "worker"}),
            ("serviceAccountName", {"name": "x"}),
            ("hostNetwork", "yes"),
            ("terminationGracePeriodSeconds", "30s"),
            ("volumes", [None]),
        )
    ),
    refused("a field that does not exist", ".spec.concurrency: field not declared in schema", concurrency=4),
    refused(
        "a field that does not exist",
        ".spec.autoscale: field not declared in schema",
        autoscale={"maxReplicas": 4},
    ),
]


SCALES: dict[str, Any] = {
    "queues": ["emails"],
    "broker": {"url": "redis://redis/0"},
    "autoscaling": {"maxReplicas": 3, "target": {"backlogPerReplica": 20}},
}


def scales(**autoscaling: Any) -> dict[str, Any]:
    asked = {**SCALES["autoscaling"], **autoscaling}
    return {**SCALES, "autoscaling": {key: value for key, value in asked.items() if value is not None}}


SCALING_RULES = [
    refused("autoscaling without a maximum", "maxReplicas: Required value", **scales(maxReplicas=None)),
    refused("autoscaling without a target", "target: Required value", **scales(target=None)),
    *(
        refused(
            f"autoscaling with {case}",
            "spec.autoscaling.target: Invalid value: set exactly one of backlogPerReplica, latencySeconds and "
            "busySlotsPercent",
            **scales(target=target),
        )
        for case, target in (("an empty target", {}), ("two targets", {"latencySeconds": 1, "busySlotsPercent": 80}))
    ),
    refused(
        "more workers at least than at most",
        "spec.autoscaling.minReplicas: Invalid value: minReplicas must be at most maxReplicas",
        **scales(minReplicas=4),
    ),
    refused("at most no worker", "should be greater than or equal to 1", **scales(maxReplicas=0)),
    refused("no message for each worker", "greater than or equal to 1", **scales(target={"backlogPerReplica": 0})),
    refused("more than all slots", "less than or equal to 100", **scales(target={"busySlotsPercent": 101})),
    refused("no latency at all", "should be greater than or equal to 1", **scales(target={"latencySeconds": 0})),
    refused("a negative window", "greater than or equal to 0", **scales(scaleDown={"stabilizationSeconds": -1})),
    *(
        refused(
            f"autoscaling {case}",
            "spec.autoscaling: Invalid value: autoscaling counts the messages in the pool's queues: name them",
            **{**SCALES, "queues": queues},
        )
        for case, queues in (("without queues", None), ("of no queue", []))
    ),
    *(
        refused(
            f"autoscaling {case}",
            "spec.autoscaling: Invalid value: autoscaling reads the queues at the broker: set broker.urlFrom or "
            "broker.url",
            **{**SCALES, "broker": section},
        )
        for case, section in (("without a broker", None), ("without the broker's URL", {"maxRetries": 5}))
    ),
    refused(
        "a management API with a password",
        "must be the URL of RabbitMQ's management API, for example http://rabbit:15672: a host and a port",
        **scales(managementUrl="http://user:word@rabbit"),
    ),
    *(
        refused(
            f"a management API with {what}",
            "must be the URL of RabbitMQ's management API",
            **scales(managementUrl=f"http://rabbit:15672{rest}"),
        )
        for what, rest in (("a path", "/latest/meta-data/"), ("a query", "?x="), ("a fragment", "#x"), ("a line", "\n"))
    ),
    *(
        refused(f"the quantity {amount[:12]} in {where}", "must be a", **spec)
        for amount in ("1e1000000", "1e-1000000", "1E100", "9" * 21, "0." + "1" * 30)
        for where, spec in (
            ("limits", {"resources": {"limits": {"cpu": amount}}}),
            ("requests", {"resources": {"requests": {"memory": amount}}}),
            ("maxMemoryPerChild", {"worker": {"maxMemoryPerChild": amount}}),
        )
    ),
    refused(
        "a management API of Redis",
        "spec.autoscaling.managementUrl: Invalid value: only RabbitMQ has a management API",
        **scales(managementUrl="http://rabbit:15672"),
    ),
    refused(
        "autoscaling on a broker whose queues cannot be read",
        "spec.autoscaling: Invalid value: autoscaling can read the queues of redis://, rediss://, sentinel://",
        **{**SCALES, "broker": {"url": "sqs://"}},
    ),
]


def refusal(place: Place, spec: dict[str, Any]) -> str:
    """What the API server says to a pool with these fields; a field that is None is left out."""
    manifest = place.pool_manifest(**spec)
    manifest["spec"] = {key: value for key, value in manifest["spec"].items() if value is not None}
    with pytest.raises(RefusedError) as caught:
        place.api.apply(manifest, dry_run=True)
    return str(caught.value)


@pytest.mark.parametrize(("spec", "sentence"), [*RULES, *SCALING_RULES])
def test_the_api_server_refuses(shared: Place, spec: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(shared, spec)


def rules(node: Any) -> Iterator[str]:
    """The sentence of every rule in a schema."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "x-kubernetes-validations":
                yield from (rule["message"] for rule in value)
            else:
                yield from rules(value)


def test_every_rule_has_a_row(shared: Place) -> None:
    said = [refusal(shared, row.values[0]) for row in [*RULES, *SCALING_RULES]]
    manifest = shared.pool_manifest("x" * (MAX_NAME_LENGTH + 1))
    with pytest.raises(RefusedError) as caught:
        shared.api.apply(manifest, dry_run=True)
    said.append(str(caught.value))
    assert [rule for rule in sorted(set(rules(crd.build_schema()))) if not any(rule in text for text in said)] == []


PAGE = (GOLDEN.parents[2] / "docs" / "operations" / "autoscaling.md").read_text()
DOCUMENTED = yaml.safe_load(PAGE.partition("```yaml\n")[2].partition("```")[0])["spec"]


def accepted(case: str, **spec: Any) -> Any:
    return pytest.param(spec, id=case)


@pytest.mark.parametrize(
    "spec",
    [
        accepted("nothing but app and image"),
        accepted("app with an attribute", app="shop:make_app"),
        accepted("queues with any other characters", queues=["a b", "ä_1", "x.y:z", "{tag}"]),
        accepted("no queue", queues=[]),
        accepted("a URL with a user and no password", broker={"url": "redis://user@r:6379/0"}),
        accepted("settings of the broker without its URL", broker={"maxRetries": 5}),
        accepted("memory as a number of bytes", worker={"maxMemoryPerChild": 209_715_200}),
        accepted("limits as numbers", resources={"limits": {"cpu": 2, "memory": "1.5Gi"}}),
        accepted(
            "arguments that no field sets", worker={"extraArgs": ["-E", "--without-mingle", "-Ofair", "-X", "slow"]}
        ),
        accepted("a drain as long as a task", timeLimits={"hardSeconds": 300}, drain={"timeoutSeconds": 300}),
        accepted("only a soft limit", timeLimits={"softSeconds": 10}),
        accepted("autoscaling", **SCALES),
        accepted(
            "autoscaling on RabbitMQ",
            **{**scales(managementUrl="https://rabbit:15671/"), "broker": {"url": "amqp://rabbit//"}},
        ),
        accepted("autoscaling as its page shows it", **DOCUMENTED),
        accepted("one replaced at a time", rollout={"maxSurge": 0, "maxUnavailable": 1}),
        accepted("a share of the workers to stay", disruption={"minAvailable": "50%"}),
        accepted("solo with its one slot", worker={"pool": "solo", "concurrency": 1}),
        accepted("children of the application's own pool", worker={"maxTasksPerChild": 1, "maxMemoryPerChild": "1Mi"}),
        accepted("Sentry with the operator's DSN", sentry={"environment": "x"}),
        accepted(
            "labels and annotations",
            template={
                "metadata": {"labels": {"example.com/team": "Mail_1", "empty": ""}, "annotations": {"a/B": "any &"}}
            },
        ),
        accepted("formats without a word about the format", logging={"taskFormat": "%(message)s"}),
        accepted("a field of a newer Kubernetes in a template", template={"spec": {"x": [1, None]}}),
        accepted(
            "a template that removes, replaces and adds",
            template={
                "spec": {
                    "securityContext": None,
                    "nodeSelector": {"a": "b"},
                    "tolerations": None,
                    "containers": [
                        {"name": "worker", "env": [{"name": "A", "$patch": "delete"}], "livenessProbe": None},
                        {"name": "proxy", "image": "x", "command": ["proxy"], "args": ["-v"]},
                    ],
                    "initContainers": [{"$patch": "replace"}, {"name": "wait", "command": ["sh"]}],
                    "affinity": {"$patch": "delete"},
                }
            },
        ),
        *(
            accepted(f"a broker of the scheme {scheme}", broker={"url": f"{scheme}://x"})
            for scheme in (
                "redis",
                "rediss",
                "redis+socket",
                "SQS",
                "sqla+postgresql",
                "memory",
                "myapp.kombu.Transport",
            )
        ),
        *(
            accepted(f"results of the scheme {scheme}", resultBackend={"url": f"{scheme}://x"})
            for scheme in ("redis", "db+sqlite", "cache+memcached", "file", "django.db.Backend")
        ),
        accepted(
            "a format with everything that it may have",
            logging={"workerFormat": "100%% [%(asctime)s] %(levelname)-8.3s\n%(task_name)s: %(message)r %(process)05d"},
        ),
    ],
)
def test_the_api_server_takes(shared: Place, spec: dict[str, Any]) -> None:
    assert shared.api.apply(shared.pool_manifest(**spec), dry_run=True)["spec"]["replicas"] == 1
    unlisted = {"x"}  # a field that this release does not know is a mistake in an editor, nearly always
    if not unlisted & ((spec.get("template") or {}).get("spec") or {}).keys():
        assert [error.message for error in EDITOR.iter_errors(shared.pool_manifest(**spec))] == []


@pytest.mark.parametrize(
    ("length", "ok"),
    [pytest.param(MAX_NAME_LENGTH, True, id="just fits"), pytest.param(MAX_NAME_LENGTH + 1, False, id="is too long")],
)
def test_a_name_that(shared: Place, length: int, ok: bool) -> None:
    manifest = shared.pool_manifest("x" * length)
    if ok:
        shared.api.apply(manifest, dry_run=True)
        return
    with pytest.raises(RefusedError, match=f"the name of a pool can have at most {MAX_NAME_LENGTH} characters"):
        shared.api.apply(manifest, dry_run=True)


def test_kubectl_shows_the_same_sentence(shared: Place) -> None:
    manifest = shared.pool_manifest(timeLimits={"softSeconds": 2, "hardSeconds": 1})
    with pytest.raises(RefusedError, match="softSeconds must be less than hardSeconds"):
        shared.api.create("CeleryWorkerPool", shared.namespace, manifest)


@pytest.mark.parametrize("case", sorted(path.name.removesuffix(".pool.yaml") for path in GOLDEN.glob("*.pool.yaml")))
def test_golden_manifests_are_what_the_api_server_takes(shared: Place, case: str) -> None:
    pool = yaml.safe_load((GOLDEN / f"{case}.pool.yaml").read_text())
    pool["metadata"] = {"name": pool["metadata"]["name"], "namespace": shared.namespace}
    assert shared.api.apply(pool, dry_run=True)["spec"]["app"] == pool["spec"]["app"]
    for manifest in yaml.safe_load_all((GOLDEN / f"{case}.objects.yaml").read_text()):
        manifest["metadata"]["namespace"] = shared.namespace
        assert shared.api.apply(manifest, dry_run=True)["kind"] == manifest["kind"]


def test_a_new_pool_is_born_not_ready_without_any_write(shared: Place) -> None:
    (condition,) = shared.pool()["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("Ready", "Unknown", "Pending")
