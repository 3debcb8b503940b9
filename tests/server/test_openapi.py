"""schemathesis makes requests from the server's own description, and against it: none is answered with 5xx."""

import httpx
import pytest
from hypothesis import HealthCheck, given, settings

PATHS = ["GET /health", "GET /metrics", "GET /v1/models", "GET /v1/models/{model}", "POST /v1/embeddings"]
MODES = ["positive", "negative"]
NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


@pytest.fixture(scope="module")
def schema(server):
    import schemathesis  # a second

    return schemathesis.openapi.from_url(f"{server.url}/openapi.json")


def check(schema, path, mode, examples):
    from schemathesis.checks import CHECKS, load_all_checks
    from schemathesis.generation import GenerationMode

    load_all_checks()
    checks = CHECKS.get_by_names(NAMES)
    method, name = path.split()
    operation = schema[name][method]

    @settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=operation.as_strategy(generation_mode=GenerationMode(mode)))
    def run(case):
        case.call_and_validate(checks=checks)

    run()


def test_everything_that_a_program_asks_for_is_described(schema):
    found = {f"{one.ok().method.upper()} {one.ok().path}" for one in schema.get_all_operations()}
    assert found == set(PATHS)


@pytest.mark.parametrize("mode", MODES)
def test_no_request_breaks_the_server(schema, mode):
    check(schema, "POST /v1/embeddings", mode, 15)


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("mode", MODES)
def test_no_request_of_many_breaks_the_server(schema, path, mode):
    check(schema, path, mode, 1000)


def test_the_description_says_what_an_answer_is(server):
    described = httpx.get(f"{server.url}/openapi.json").json()
    responses = described["paths"]["/v1/embeddings"]["post"]["responses"]
    assert set(responses) == {"200", "4XX", "5XX"}
