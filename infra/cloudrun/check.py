"""Checks the Cloud Run manifests and the env template, offline. Run by scripts/check-infra.

    python3 check.py CLOUD_SDK_ROOT

Unknown fields and wrong types are found by the Cloud CLI's own typed messages of the Cloud Run API, the ones that
`gcloud run services replace` parses a file with. The rest are promises of this project: one instance that is always on,
probes on paths that Cloud Run does not reserve, a flag file that can change, and settings that the template explains.
"""

import pathlib
import sys

root = pathlib.Path(sys.argv[1])
sys.path[:0] = [str(root / "lib"), str(root / "lib" / "third_party")]

from googlecloudsdk.api_lib.util import messages as typed  # noqa: E402
from googlecloudsdk.core import yaml  # noqa: E402
from googlecloudsdk.generated_clients.apis.run.v1 import run_v1_messages as messages  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TEMPLATE = "env/market_ingest.env.yaml.example"
MANIFESTS = {
    "services/market-ingest.service.yaml": messages.Service,
    "workerpools/market-ingest.workerpool.yaml": messages.WorkerPool,
}
# Set by reference to a secret, so Cloud Run refuses them in an env file.
SECRETS = {"APCA_API_KEY_ID", "APCA_API_SECRET_KEY"}
RESERVED = {"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"}

faults = []


def must(holds, file, what):
    """Notes a fault unless the promise holds."""
    if not holds:
        faults.append(f"{file}: {what}")


def load(file):
    """The one document of a YAML file, as plain dicts and lists."""
    return yaml.load_path(str(HERE / file))


def check_types(file, document, message):
    """Every field is known to the API and has its type."""
    try:
        typed.DictToMessageWithErrorCheck(document, message)
    except typed.DecodeError as error:
        must(False, file, f"not a {message.__name__}: {error}")


def check_promises(file, document, template):
    """What the API would accept and the project would not."""
    annotations = document["metadata"].get("annotations", {})
    revision = document["spec"]["template"]
    revision_annotations = revision["metadata"]["annotations"]
    if document["kind"] == "Service":
        for bound in ("minScale", "maxScale"):
            must(revision_annotations.get(f"autoscaling.knative.dev/{bound}") == "1", file, f"{bound} is not \"1\"")
        throttling = revision_annotations.get("run.googleapis.com/cpu-throttling")
        must(throttling == "false", file, "cpu-throttling is not \"false\": the socket would sleep between requests")
    else:
        must(annotations.get("run.googleapis.com/manualInstanceCount") == "1", file, "not exactly one instance")
    must(revision_annotations.get("run.googleapis.com/execution-environment") == "gen2", file, "not gen2")

    (container,) = revision["spec"]["containers"]
    probes = {name: container.get(name, {}).get("httpGet", {}).get("path") for name in ("startupProbe", "livenessProbe")}
    must(probes == {"startupProbe": "/ready", "livenessProbe": "/live"}, file, f"probes ask {probes}")

    env = {entry["name"]: entry for entry in container["env"]}
    for name, entry in env.items():
        if name in SECRETS:
            must("secretKeyRef" in entry.get("valueFrom", {}), file, f"{name} is not a reference to a secret")
        else:
            must(name in template, file, f"{name} is not in {TEMPLATE}")
            must(name not in RESERVED, file, f"{name} is set by Cloud Run")
    must(SECRETS <= env.keys(), file, f"lacks {sorted(SECRETS - env.keys())}")

    flag = pathlib.PurePosixPath(env["INGEST_ENABLED_FILE"]["value"])
    must(str(flag) == template["INGEST_ENABLED_FILE"], file, f"the flag file differs from the one in {TEMPLATE}")
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in revision["spec"]["volumes"]}
    volume = volumes.get(mounts.get(str(flag.parent)), {})
    items = volume.get("secret", {}).get("items", [])
    must(
        [(item["key"], item["path"]) for item in items] == [("latest", flag.name)],
        file,
        f"{flag} is not a secret volume at `latest`: an edit would never arrive",
    )


template = load(TEMPLATE)
for name, value in template.items():
    must(isinstance(value, str), TEMPLATE, f"{name} is no string; gcloud takes strings only")
    must(name not in SECRETS | RESERVED, TEMPLATE, f"{name} may not be set in an env file")
must(template.get("INGEST_ENABLED") == "", TEMPLATE, "INGEST_ENABLED is set: nothing but a new revision releases that")

for file, message in MANIFESTS.items():
    document = load(file)
    check_types(file, document, message)
    check_promises(file, document, template)

for fault in faults:
    print(fault, file=sys.stderr)
print(f"{len(MANIFESTS)} manifests and {len(template)} settings, {len(faults)} faults")
sys.exit(1 if faults else 0)
