"""The page at ``/``: what it may load, what it asks for, and what a person sees in headless Chromium."""

import re
import shutil

import pytest

from echo_embeddings import EchoEncoder, evaluation
from tests.conftest import TEXTS
from tests.server.running import running

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome"))), None)
DOCUMENTS = ["The ferry leaves the island at dawn.", "A short one", "<b>def add</b>"]


async def test_the_page_may_load_nothing_but_itself(client):
    async with client(name="a<b>") as http:
        page = await http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert not re.search(r"(?:src|href)=\"(?!data:,\")", page.text)
    assert not re.search(r"https?://", page.text)
    assert " style=" not in page.text
    assert not re.search(r" on\w+=", page.text)
    assert "Model: a&lt;b&gt;." in page.text
    assert "@@" not in page.text


async def test_similarities_are_those_of_the_encoder_and_of_classical_embeddings(client, folder, encoder):
    body = {"query": TEXTS[0], "documents": DOCUMENTS}
    async with client() as http:
        found = (await http.post("/page/compare", json=body)).json()
    classical = EchoEncoder(folder, "classical", dtype="float32")
    queries = {"echo": encoder.encode_queries(TEXTS[0]), "classical": classical.encode_documents(TEXTS[0])}
    for kind, one in (("echo", encoder), ("classical", classical)):
        assert found[kind] == pytest.approx((one.encode_documents(DOCUMENTS) @ queries[kind]).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("compare", {"query": "a", "documents": []}, "documents=[]: List should have at least 1 item"),
        ("compare", {"query": "a", "documents": ["a"] * 33}, "List should have at most 32 items"),
        ("compare", {"query": "", "documents": ["a"]}, "query='': String should have at least 1 character"),
        ("explain", {"text": "a " * 200}, "tokens, and at most 40 can be explained; give a shorter one"),
    ],
)
async def test_what_the_page_cannot_ask_for(client, encoder, path, body, message):
    async with client(explain=lambda text: evaluation.explain(encoder, text).page()) as http:
        answer = await http.post(f"/page/{path}", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]["message"]


async def test_explanations_are_shown_without_a_key_under_names_that_nobody_can_guess(client):
    async with client(explain=lambda text: f"<p>{text}</p>", api_keys=["key"]) as http:
        asked = [
            (await http.post("/page/explain", json={"text": f"{i}"}, headers={"authorization": "Bearer key"})).json()
            for i in range(17)
        ]
        pages = [one["page"] for one in asked]
        shown = await http.get(pages[16])
        assert (shown.status_code, shown.text) == (200, "<p>16</p>")
        assert shown.headers["content-security-policy"] == "sandbox allow-scripts; frame-ancestors 'self'"
        assert (await http.get(pages[0])).status_code == 404  # only the last are kept
        assert (await http.get("/page/explanations/none")).status_code == 404
    assert len(set(pages)) == 17
    assert min(map(len, pages)) > 40


async def test_without_a_function_to_explain_there_is_no_such_part(client):
    async with client() as http:
        assert 'data-explains="no"' in (await http.get("/")).text
        assert (await http.post("/page/explain", json={"text": "a"})).status_code == 404


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed; on Debian: apt-get install chromium-headless-shell")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that remembers what it asked for, and what it was refused."""
    page = browser.new_page()
    page.asked, page.complaints = [], []
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.close()


def test_a_person_compares_and_sees_attention(server, page, tmp_path):
    page.goto(server.url)
    assert page.title() == "echo-embeddings"
    page.fill("#query", TEXTS[0])
    page.fill("#documents", "\n".join(["", *DOCUMENTS]))
    page.click("#compare")
    page.wait_for_selector("#compared:not([hidden])")
    rows = page.locator("#rows tr")
    assert rows.count() == 3
    assert sorted(row.locator("td").first.inner_text() for row in rows.all()) == sorted(DOCUMENTS)
    numbers = [[float(cell.inner_text()) for cell in row.locator("td.number").all()] for row in rows.all()]
    assert [echo for echo, _ in numbers] == sorted((echo for echo, _ in numbers), reverse=True)
    assert max(classical for _, classical in numbers) == 1  # the query is one of the documents
    assert page.locator("td.first").count() == 2
    page.fill("#text", TEXTS[0])
    page.click("#explain")
    frame = page.frame_locator("#picture")
    frame.locator("#map").wait_for()
    assert "".join(frame.locator("#last span").all_inner_texts()) == TEXTS[0]
    assert frame.locator("#map").evaluate("canvas => canvas.width") > 10
    assert page.complaints == []
    assert all(url.startswith((server.url, "data:")) for url in page.asked)


def test_a_person_sees_what_is_wrong(server, page):
    page.goto(server.url)
    page.fill("#text", "a " * 200)
    page.click("#explain")
    page.wait_for_selector("#wrong:not([hidden])")
    assert "at most 40 can be explained" in page.inner_text("#wrong")
    assert page.locator("#explain").is_enabled()
    page.fill("#documents", "\n".join("a" * 33))
    page.click("#compare")
    page.wait_for_function("document.getElementById('wrong').textContent.includes('at most 32')")


def test_a_person_with_a_key(folder, page, tmp_path):
    with running(folder, tmp_path / "log", env={"ECHO_EMBEDDINGS_API_KEYS": "key-one"}) as server:
        page.goto(server.url)
        page.click("#compare")
        page.wait_for_selector("#key-label:not([hidden])")
        assert "send the header Authorization: Bearer KEY" in page.inner_text("#wrong")
        page.fill("#key", "key-one")
        page.click("#compare")
        page.wait_for_selector("#compared:not([hidden])")
        assert page.locator("#wrong").is_hidden()
