"""Prints one Firestore document as Google's own Python client sees it: {field: [type, value]}.

Usage: FIRESTORE_EMULATOR_HOST=host:port read_firestore.py PROJECT PATH
"""

import json
import sys

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore


def typed(value):
    """The value with its Python type, all the way down; timestamps as RFC 3339 text."""
    name = type(value).__name__
    if isinstance(value, dict):
        return [name, {key: typed(inner) for key, inner in value.items()}]
    if isinstance(value, list):
        return [name, [typed(inner) for inner in value]]
    if hasattr(value, "isoformat"):
        return [name, value.isoformat()]
    return [name, value]


def main() -> int:
    project, path = sys.argv[1:]
    client = firestore.Client(project=project, credentials=AnonymousCredentials())
    document = client.document(path).get(timeout=10)
    if not document.exists:
        print(f"no document at {path}", file=sys.stderr)
        return 1
    json.dump(typed(document.to_dict())[1], sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
