"""Checks the Kubernetes manifests, offline. Run by scripts/check-infra, with a Python that has kubernetes-validate.

    python3 check.py [DIRECTORY]

Unknown fields and wrong types are found by the API's own schemas. The rest are promises of this project: applying a
file runs nothing, what pauses also ends, a paused pod is ready, the switch is mounted so that it can change, and a role
names what it allows.
"""

import pathlib
import sys

import kubernetes_validate
import yaml

HERE = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else __file__).resolve()
HERE = HERE if HERE.is_dir() else HERE.parent
# The oldest version that is still in use, and the newest whose schemas are at hand.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
# The names that operators know.
CRONJOBS = {"pause-pulling-agent", "resume-pulling-agent", "pause-agent-maintenance"}
NEVER = "0 0 31 2 *"

faults = []


def must(holds, file, what):
    """Notes a fault unless the promise holds."""
    if not holds:
        faults.append(f"{file}: {what}")


def load(file):
    """The documents of a YAML file."""
    return [document for document in yaml.safe_load_all((HERE / file).read_text()) if document]


def check_schema(file, document):
    """Every field is known to the API and has its type."""
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            must(False, file, f"not a {document.get('kind')} of {version}: {error}")


def check_pod(file, spec):
    """Any pod of ours runs as nobody, cannot gain rights, and writes where it says only."""
    must(spec.get("securityContext", {}).get("runAsNonRoot") is True, file, "runAsNonRoot is not true")
    for container in spec["containers"]:
        context = container.get("securityContext", {})
        must(context.get("readOnlyRootFilesystem") is True, file, "the root filesystem can be written")
        must(context.get("allowPrivilegeEscalation") is False, file, "privileges can be gained")
        must(context.get("capabilities", {}).get("drop") == ["ALL"], file, "capabilities are kept")
        must("memory" in container["resources"]["limits"], file, "no limit of memory")
        for mount in container["volumeMounts"]:
            must("subPath" not in mount and "subPathExpr" not in mount, file, f"{mount['mountPath']}: a subPath never changes")


def check_deployment(file, deployment):
    spec = deployment["spec"]
    must(spec["replicas"] == 1, file, "not one replica: Alpaca allows one connection")
    must(spec.get("strategy") == {"type": "Recreate"}, file, "old and new pods would overlap")
    labels = spec["template"]["metadata"]["labels"]
    must(labels.get("app") == "pulling-agent", file, "the label that operators select by is missing")
    must(spec["selector"]["matchLabels"] == {"app": "pulling-agent"}, file, "the selector is not that label")
    pod = spec["template"]["spec"]
    check_pod(file, pod)
    must(pod.get("terminationGracePeriodSeconds", 30) >= 10, file, "a stop takes up to 8 s")
    container = pod["containers"][0]
    must(container["name"] == "market-ingest", file, "the control script executes in the container market-ingest")
    for probe, paths in (("livenessProbe", ("/livez", "/live")), ("readinessProbe", ("/readyz", "/ready"))):
        path = container.get(probe, {}).get("httpGet", {}).get("path")
        must(path in paths, file, f"{probe} asks {path}: only over HTTP a paused pod is ready")
    env = {variable["name"]: variable.get("value") for variable in container["env"]}
    must("INGEST_ENABLED" not in env, file, "INGEST_ENABLED would hold or say nothing for the life of the pod")
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounted = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
    flag = pathlib.PurePosixPath(env["INGEST_ENABLED_FILE"])
    switch = mounted.get(str(flag.parent), {}).get("configMap", {})
    must(switch.get("name") == "agent-control" and flag.name == "state", file, "the flag is not the key state of agent-control")
    must(switch.get("optional") is True, file, "without the ConfigMap the pod would not start")
    must("emptyDir" in mounted.get(env["INGEST_HEALTH_DIR"], {}), file, "the health files are not in a directory of their own")


def check_cronjob(file, cronjob):
    name, spec = cronjob["metadata"]["name"], cronjob["spec"]
    must(spec.get("suspend") is True, file, f"{name} is not suspended: applying it may run it")
    must(spec.get("concurrencyPolicy") == "Forbid", file, f"{name} may overlap itself")
    must("timeZone" in spec, file, f"{name} says no time zone")
    job = spec["jobTemplate"]
    pod = job["spec"]["template"]
    must("activeDeadlineSeconds" in job["spec"], file, f"{name} may run for ever")
    for labels in (job["metadata"]["labels"], pod["metadata"]["labels"]):
        must(labels.get("app") == "pulling-agent-control", file, f"{name} lacks the label that operators select by")
    check_pod(file, pod["spec"])
    command = pod["spec"]["containers"][0]["command"]
    must(command[:2] == ["bash", "/scripts/control-agent.sh"], file, f"{name} does not use the control script")
    if spec["schedule"] != NEVER:
        must(command[2] == "pause" and "--for" in command, file, f"{name} is timed, and its pause does not end by itself")


def check_rbac(file, documents):
    kinds = {document["kind"] for document in documents}
    must(kinds <= {"ServiceAccount", "Role", "RoleBinding"}, file, f"more than RBAC in it: {sorted(kinds)}")
    for role in (document for document in documents if document["kind"] == "Role"):
        for rule in role["rules"]:
            must("*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"], file, "a rule allows everything")
            named = "resourceNames" in rule
            must(not (named and "create" in rule["verbs"]), file, "create cannot be restricted to a name")
            for resource in ("configmaps", "deployments"):
                must(resource not in rule["resources"] or named, file, f"all {resource} of the namespace are allowed")
            must("secrets" not in rule["resources"], file, "secrets are nobody's business here")


files = {path.name: load(path.name) for path in sorted(HERE.glob("*.yaml"))}
for file, documents in files.items():
    for document in documents:
        check_schema(file, document)
        must("namespace" not in document["metadata"], file, "a namespace is chosen by whoever applies it")
        kind = document["kind"]
        must(kind not in ("Job", "Pod"), file, f"a {kind} runs when it is applied")
        if kind == "ConfigMap":
            must(not document.get("data"), file, "a decision would be made again at each apply")
        elif kind == "Deployment":
            check_deployment(file, document)
        elif kind == "CronJob":
            check_cronjob(file, document)
check_rbac("rbac.yaml", files["rbac.yaml"])
cronjobs = {d["metadata"]["name"]: d["spec"] for ds in files.values() for d in ds if d["kind"] == "CronJob"}
must(CRONJOBS <= set(cronjobs), "cronjobs", f"missing: {sorted(CRONJOBS - set(cronjobs))}")
timed = [name for name, spec in cronjobs.items() if spec["schedule"] != NEVER]
must(len(timed) <= 1, "cronjobs", f"{timed} write the same ConfigMap and would contradict each other")

for fault in faults:
    print(fault)
print(f"{len(files)} files, {sum(map(len, files.values()))} objects, {len(faults)} faults")
sys.exit(bool(faults))
