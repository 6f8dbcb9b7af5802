"""Checks the security rules against a running Firestore emulator that has loaded them, and the index file's form.

    python3 check.py HOST:PORT

A reader is a token without a signature, which the emulator takes at its word; `owner` is the producer, past all rules.
"""

import base64
import json
import pathlib
import sys
import urllib.error
import urllib.request

HOST = sys.argv[1]
HERE = pathlib.Path(__file__).resolve().parent


def part(value):
    """One part of a JSON web token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def reader(**claims):
    """A signed-in reader with these claims."""
    return f"{part({'alg': 'none', 'typ': 'JWT'})}.{part({'sub': 'r', 'user_id': 'r', **claims})}."


def ask(method, path, token):
    """The HTTP status of one request."""
    request = urllib.request.Request(
        f"http://{HOST}/v1/projects/rules/databases/(default)/documents/{path}",
        method=method,
        data=b'{"fields": {}}' if method == "PATCH" else None,
        headers={"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


heartbeat, quote = "tenants/a/ops/market_ingest", "tenants/a/live_quotes/SPY"
other, root = "tenants/a/ops/market_ingest_control", "ops/market_ingest"
pause = "tenants/a/ops/market_ingest/history/p"
for path in (heartbeat, quote, other, root, pause):
    assert ask("PATCH", path, "owner") == 200, f"the emulator does not let the owner write {path}"

own, foreign = reader(tenant="a"), reader(tenant="b")
cases = [
    ("the tenant's reader reads the heartbeat", "GET", heartbeat, own, 200),
    ("the tenant's reader reads quotes", "GET", quote, own, 200),
    ("another tenant's reader does not", "GET", heartbeat, foreign, 403),
    ("another tenant's reader reads no quotes", "GET", quote, foreign, 403),
    ("a reader without a tenant does not", "GET", heartbeat, reader(), 403),
    ("nobody reads without signing in", "GET", heartbeat, None, 403),
    ("no reader reads other operations documents", "GET", other, own, 403),
    ("no reader reads the history of pauses", "GET", pause, own, 403),
    ("no reader places or releases holds", "PATCH", other, own, 403),
    ("no reader reads the root", "GET", root, own, 403),
    ("no reader writes the heartbeat", "PATCH", heartbeat, own, 403),
    ("no reader writes quotes", "PATCH", quote, own, 403),
    ("no reader deletes the heartbeat", "DELETE", heartbeat, own, 403),
]
faults = [
    f"{promise}: {method} {path} answered {got}, not {expected}"
    for promise, method, path, token, expected in cases
    if (got := ask(method, path, token)) != expected
]

indexes = json.loads((HERE / "firestore.indexes.json").read_text())
if set(indexes) != {"indexes", "fieldOverrides"}:
    faults.append(f"firestore.indexes.json: unexpected keys {sorted(indexes)}")
for override in indexes.get("fieldOverrides", []):
    if set(override) != {"collectionGroup", "fieldPath", "indexes"}:
        faults.append(f"firestore.indexes.json: {override}")

for fault in faults:
    print(fault, file=sys.stderr)
print(f"{len(cases)} cases, {len(faults)} faults")
sys.exit(1 if faults else 0)
