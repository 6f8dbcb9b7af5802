"""Keeps valid requests within what a description cannot say: `until` is a time to come, and a job's own path takes no
other scope. What is invalid by the description stays as it is."""

import re

import schemathesis

PAST = re.compile(r"^(?:[01]\d{3}|20[0-8]\d)(?=-\d\d-\d\d[Tt ])")
SCOPE = re.compile(r"\s*(?:all|job:[!-.0-~]{1,100}|symbol:[!-~]{1,100})(?:/[a-z]+)?\s*", re.IGNORECASE)


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if not isinstance(body, dict):
        return
    if isinstance(body.get("until"), str):
        body["until"] = PAST.sub("2096", body["until"])
    name = (case.path_parameters or {}).get("name")
    scopes = body.get("scope")
    scopes = [scopes] if isinstance(scopes, str) else scopes
    if name and isinstance(scopes, list) and scopes:
        if all(isinstance(scope, str) and SCOPE.fullmatch(scope) for scope in scopes):
            body["scope"] = f"job:{name}"
