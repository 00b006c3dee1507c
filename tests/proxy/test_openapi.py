"""The description of our own routes: that it is all of them, that it holds, and what generated requests find out."""

import json
import os
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.agents.launcher import Agent
from tests.proxy.agent import answer, saying
from tests.proxy.scene import scene
from tests.serving import start_respool

DESCRIPTION: dict[str, Any] = json.loads(files("respool.proxy").joinpath("openapi.json").read_bytes())
SEED = int(os.environ.get("RESPOOL_SEED", "20260101"))
SOAK_EXAMPLES = int(os.environ.get("RESPOOL_SOAK_EXAMPLES", "2000"))


async def test_every_route_is_described_and_nothing_else() -> None:
    async with scene(saying(*answer("x"))) as s:
        routed = {
            (rule.rule.replace("<id_>", "{response_id}"), method.lower())
            for rule in s.served.app._quart.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        }
    routed.add(("/responses", "post"))  # which Quart never sees
    described = {
        (path, method) for path, item in DESCRIPTION["paths"].items() for method in item if method != "parameters"
    }
    assert described == routed


async def test_it_is_served() -> None:
    async with scene(saying(*answer("x"))) as s:
        response = await s.client.get("/_respool/openapi.json")
        assert response.headers["content-type"] == "application/json"
        assert response.json() == DESCRIPTION


# --- generated requests


CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]


def explore(url: str, examples: int) -> int:
    """Send so many good and as many bad requests to each route, half of them about responses that are there."""
    known = ["caresp_" + letter * 50 for letter in "abcdef"]
    for number, id_ in enumerate(known):
        body = {"input": "hi", "background": number % 2 == 0, "stream": number % 3 == 0}
        created = httpx.post(f"{url}/responses", json=body, headers={"x-agent-response-id": id_}, timeout=60)
        assert created.status_code == 200, created.text
    sent = 0
    for result in schemathesis.openapi.from_dict(DESCRIPTION).get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        for mode in GenerationMode:

            @seed(SEED)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode), st.sampled_from([None, *known]))
            def check(case: Any, id_: str | None) -> None:
                nonlocal sent
                sent += 1
                if id_ is not None and "response_id" in case.path_parameters:
                    case.path_parameters["response_id"] = id_
                response = case.call(base_url=url, timeout=60)
                # An error of the agent's is handed on as it is, and agents do not bear every input.
                if response.headers.get("x-platform-error-source") != ["upstream"]:
                    case.validate_response(response, checks=CHECKS)

            # A route that takes nothing has no bad requests.
            with suppress(Unsatisfiable):
                check()
    return sent


@pytest.mark.parametrize("examples", [25, pytest.param(SOAK_EXAMPLES, marks=pytest.mark.soak)], ids=["some", "many"])
def test_generated_requests_are_answered_as_described(core_agent: Agent, tmp_path: Path, examples: int) -> None:
    server = start_respool(core_agent.url, tmp_path, "--accept-grace-ms", "50")
    try:
        sent = explore(server.url, examples)
        print(f"{sent} requests, seed {SEED}")
        assert httpx.get(f"{server.url}/_respool/ready").status_code == 200
        assert "Traceback" not in server.log.read_text()
    finally:
        server.kill()
