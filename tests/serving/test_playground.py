"""The page at `/`: its HTML by itself, and what it does in a headless Chromium against a real server."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser

import pytest
from chromium import EXECUTABLE, Chromium
from running_server import fixed_logits

from crossrank.serving.dialects.choice import DIALECTS
from tiny_pdf import pdf_bytes

QUERY = "Which planet is known as the Red Planet?"
TEXTS = ["Bread needs flour and water.", "Mars isn't blue: it's the Red Planet.", "Paris"]


class Elements(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.all: list[tuple[str, dict]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.all.append((tag, dict(attrs)))

    def of(self, *tags):
        return [attributes for tag, attributes in self.all if tag in tags]


@pytest.fixture(scope="module")
def page(server):
    return server.get("/")


def test_the_page_is_html_that_needs_no_key(start):
    answered = start(api_keys={"someone": "0123456789"}).get("/")
    assert answered.status_code == 200
    assert answered.headers["content-type"] == "text/html; charset=utf-8"


def test_every_field_has_a_label_and_what_changes_is_announced(page):
    elements = Elements(page.text)
    labels = {label.get("for") for label in elements.of("label")}
    for field in elements.of("input", "textarea", "select"):
        assert field["id"] in labels, field
    ids = [attributes["id"] for _, attributes in elements.all if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in elements.all:
        named = f"{attributes.get('aria-describedby', '')} {attributes.get('aria-labelledby', '')}".split()
        assert set(named) <= set(ids)
    assert {attributes.get("role") for _, attributes in elements.all} >= {"status", "alert"}
    assert elements.of("html")[0]["lang"] == "en" and elements.of("main") and elements.of("h1")
    assert all("tabindex" not in a or a["tabindex"] in ("0", "-1") for _, a in elements.all)


def test_nothing_comes_from_anywhere_else(page):
    assert not re.search(r"(?:https?:)?//[a-z]", re.sub(r"^\s*//.*$", "", page.text, flags=re.MULTILINE), re.IGNORECASE)
    elements = Elements(page.text)
    assert not any("src" in attributes for _, attributes in elements.all)
    assert [link["href"] for link in elements.of("link")] == ["data:,"]
    assert not any(name.startswith("on") or name == "style" for _, a in elements.all for name in a)
    assert "innerHTML" not in page.text, "documents are shown as text, never as HTML"


def test_the_policy_allows_this_script_and_this_style_alone(page):
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'" and policy["img-src"] == "data:"
    for tag in ("script", "style"):
        content = re.search(f"<{tag}>(.*?)</{tag}>", page.text, re.DOTALL)[1]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"


def test_every_dialect_can_be_shared(page):
    shared = set(re.findall(r'path: "/(\w+)/', page.text))
    assert shared == {dialect.name for dialect in DIALECTS}


def pdf(*pages: str) -> bytes:
    """The smallest PDF with a line of text a page."""
    parts = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    font = "<< /Font << /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >>"
    kids = []
    for text in pages:
        stream = f"BT /F 12 Tf 20 100 Td ({text}) Tj ET"
        parts.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
        box = f"/MediaBox [0 0 300 200] /Contents {len(parts)} 0 R /Resources {font}"
        parts.append(f"<< /Type /Page /Parent 2 0 R {box} >>")
        kids.append(f"{len(parts)} 0 R")
    parts[1] = f"<< /Type /Pages /Kids [{' '.join(kids)}] /Count {len(kids)} >>"
    found, places = "%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        places.append(len(found))
        found += f"{number} 0 obj\n{part}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(parts) + 1
    end = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(found)}\n%%EOF"
    return f"{found}xref\n0 {size}\n0000000000 65535 f \n{table}{end}".encode()


def test_the_texts_of_a_pdf(start):
    pytest.importorskip("pypdfium2", reason="pip install pypdfium2")
    server = start(max_body_bytes=5000, api_keys={"someone": "0123456789"})
    headers = {"authorization": "Bearer 0123456789"}
    sent = server.client.post("/playground/pdf", content=pdf("Mars is red", "Paris"), headers=headers)
    assert sent.json() == {"pages": ["Mars is red", "Paris"]}
    for content, status in [(b"no pdf", 422), (b"", 422), (b"x" * 6000, 413)]:
        assert server.client.post("/playground/pdf", content=content, headers=headers).status_code == status
    assert server.client.post("/playground/pdf", content=pdf("a")).status_code == 401
    broken = pdf_bytes("one", "two", "three").replace(b"8 0 R]", b"99 0 R]")
    refused = server.client.post("/playground/pdf", content=broken, headers=headers)
    assert refused.status_code == 422
    assert "page 3 of the PDF cannot be read" in refused.text


# ---- in the browser

in_browser = pytest.mark.skipif(EXECUTABLE is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    pytest.importorskip("websockets.sync.client", reason="pip install websockets")
    browser = Chromium(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def opened(browser, server):
    browser.open(f"{server.url}/")
    yield browser
    broken = [e for e in browser.events if e.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    # A refused request is logged by the browser itself.
    broken = [e for e in broken if e.get("params", {}).get("entry", {}).get("source") != "network"]
    assert not broken, f"an error in the page's console: {broken}"


def fill(browser, documents, query=QUERY):
    browser.ask("document.getElementById('query').focus()")
    browser.type(query)
    browser.ask("document.getElementById('documents').focus()")
    browser.type(documents)


def shown(browser):
    return browser.ask(
        "[...document.querySelectorAll('#ranking > li')].map(li => ({"
        "score: Number(li.querySelector('.score').textContent), text: li.querySelector('.text').textContent,"
        "bar: li.querySelector('.bar').getBoundingClientRect().width / li.querySelector('.track').clientWidth,"
        "badge: li.querySelector('.badge')?.textContent ?? null, mark: li.querySelector('mark')?.textContent ?? null}))"
    )


@in_browser
def test_a_ranking_by_keyboard_alone(opened, tiny_reranker, tmp_path):
    opened.ask("document.body.focus()")
    opened.press("Tab")
    assert opened.ask("document.activeElement.id") == "query"
    opened.type(QUERY)
    opened.press("Tab")
    assert opened.ask("document.activeElement.id") == "documents"
    opened.type("\n".join(TEXTS))
    opened.press("Enter", control=True)
    opened.until("!document.getElementById('results').hidden")
    expected = tiny_reranker.rank(QUERY, TEXTS, score_type="probability")
    found = shown(opened)
    assert [(item["text"], item["score"]) for item in found] == [
        (TEXTS[hit.index], pytest.approx(hit.score, abs=1e-4)) for hit in expected
    ]
    assert [item["bar"] for item in found] == pytest.approx([hit.score for hit in expected], abs=0.01)
    assert "3 documents ranked in" in opened.ask("document.getElementById('status').textContent")
    facts = opened.ask("document.getElementById('facts').textContent")
    assert re.search(r"tiny · probability · \d+ tokens · \d+ ms in all · server [\d.]+ ms", facts)
    assert opened.ask("document.activeElement.id") == "results-title", "a screen reader goes on there"
    opened.screenshot(tmp_path / "playground.png")


@in_browser
def test_everything_can_be_reached_with_tab(opened):
    reached = []
    for _ in range(20):
        opened.press("Tab")
        reached.append(opened.ask("document.activeElement.id"))
    wanted = ["query", "documents", "picker", "model", "overflow", "top", "key", "rank", "clear", "format", "dialect"]
    places = [reached.index(name) for name in [*wanted, "shared", "copy"]]
    assert places == sorted(places)


@in_browser
def test_long_documents_show_what_was_cut_or_the_best_part(opened):
    fill(opened, "Mars is red. 🍞 " * 100 + "\nParis")
    opened.ask("document.getElementById('rank').click()")
    opened.until("!document.getElementById('results').hidden")
    marked = next(item for item in shown(opened) if len(item["text"]) > 100)
    assert marked["badge"] is None and marked["mark"] in marked["text"] and 20 < len(marked["mark"]) < 900
    assert marked["mark"].startswith(("Mars", "🍞")), "the span counts characters as Python does"
    box = "document.querySelector('mark').parentElement"
    assert opened.ask(f"{box}.scrollTop <= document.querySelector('mark').offsetTop")
    assert opened.ask(f"document.querySelector('mark').offsetTop < {box}.scrollTop + {box}.clientHeight"), "in view"
    opened.ask("document.getElementById('overflow').value = 'truncate'; document.getElementById('rank').click()")
    opened.until("document.querySelector('.badge')")
    assert {item["badge"] for item in shown(opened)} == {"truncated", None}
    assert "1 truncated" in opened.ask("document.getElementById('status').textContent")
    opened.ask("document.getElementById('overflow').value = 'error'; document.getElementById('rank').click()")
    opened.until("document.getElementById('error').textContent")


@in_browser
def test_files_become_documents(opened, tmp_path):
    paths = []
    jsonl = '{"text": "Paris", "title": "Cities"}\n"plain"\n'
    for name, content in [("a.txt", "Mars\n\nis red"), ("b.jsonl", jsonl), ("c.pdf", None), ("bad.jsonl", "{")]:
        paths.append(tmp_path / name)
        paths[-1].write_bytes(pdf("Page one", "Page two") if content is None else content.encode())
    opened.choose_files("#picker", *paths[:3])
    opened.until("document.querySelectorAll('#files li').length === 3")
    texts = opened.ask("allDocuments().map(document => document.text)")
    assert texts == ["Mars\n\nis red", "Cities Paris", "plain", "Page one", "Page two"]
    opened.choose_files("#picker", paths[3])
    opened.until("document.getElementById('error').textContent")
    assert opened.ask("document.getElementById('error').textContent") == "bad.jsonl: line 1 is no JSON"
    opened.ask("document.querySelector('#files button').click()")
    assert opened.ask("document.querySelectorAll('#files li').length") == 2
    assert opened.ask("document.querySelector('#files button').getAttribute('aria-label')") == "Remove b.jsonl"


@in_browser
def test_files_can_be_dropped_and_an_image_is_shown_and_refused_by_a_model_of_texts(opened):
    opened.ask(
        "(() => { const given = new DataTransfer();"
        "given.items.add(new File(['from a drop'], 'd.txt', {type: 'text/plain'}));"
        "given.items.add(new File([Uint8Array.from(atob('R0lGODlhAQABAAAAACwAAAAAAQABAAA='), c => c.charCodeAt(0))],"
        "'i.gif', {type: 'image/gif'}));"
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true})); })()"
    )
    opened.until("document.querySelectorAll('#files li').length === 2")
    assert opened.ask("allDocuments()[1].image").startswith("data:image/gif;base64,")
    opened.ask("document.getElementById('query').value = 'q'; document.getElementById('rank').click()")
    opened.until("document.getElementById('error').textContent")
    assert "image" in opened.ask("document.getElementById('error').textContent")


@in_browser
def test_what_is_shared_in_any_dialect_gets_the_same_ranking(opened, server, tiny_reranker):
    fill(opened, "\n".join(TEXTS))
    opened.ask(
        "document.getElementById('key').value = 'very-secret'; document.getElementById('top').value = 3; share()"
    )
    best = [hit.index for hit in tiny_reranker.rank(QUERY, TEXTS)]
    dialects = opened.ask("Object.keys(DIALECTS)")
    assert len(dialects) == 11
    for dialect in dialects:
        opened.ask(f"document.getElementById('dialect').value = '{dialect}'; share()")
        command = shlex.split(opened.ask("document.getElementById('shared').value").replace("\\\n", ""))
        assert command[0] == "curl" and "very-secret" not in " ".join(command)
        assert "Authorization: Bearer $CROSSRANK_API_KEY" in command
        answer = server.client.post(command[1], content=command[-1], headers={"content-type": "application/json"})
        assert answer.status_code == 200, answer.text
        assert order(answer.json()) == best, dialect


def order(answer) -> list[int]:
    """The places of the documents, best first, whatever the dialect."""
    if isinstance(answer, dict):
        answer = next(answer[key] for key in ("results", "data", "rankings", "scores") if key in answer)
    scores = [next(hit[key] for key in ("relevance_score", "score", "logit") if key in hit) for hit in answer]
    places = [hit.get("index", i) for i, hit in enumerate(answer)]
    return [places[i] for i in sorted(range(len(scores)), key=lambda i: -scores[i])]


@in_browser
def test_the_json_of_everything_fills_the_form_again(opened, tmp_path):
    fill(opened, "\n".join(TEXTS))
    opened.press("Enter", control=True)
    opened.until("!document.getElementById('results').hidden")
    opened.ask("document.getElementById('format').value = 'json'; share()")
    shared = opened.ask("document.getElementById('shared').value")
    value = json.loads(shared)
    assert value["query"] == QUERY and value["score_type"] == "probability" and value["ranking"][0]["rank"] == 1
    path = tmp_path / "shared.json"
    path.write_text(shared, encoding="utf-8")
    opened.ask("document.getElementById('clear').click()")
    opened.choose_files("#picker", path)
    opened.until("document.querySelectorAll('#files li').length === 1")
    assert opened.ask("[document.getElementById('query').value, allDocuments().map(d => d.text)]") == [QUERY, TEXTS]


@in_browser
def test_errors_are_announced_and_documents_are_never_run(opened):
    opened.ask("document.getElementById('rank').click()")
    assert opened.ask("document.getElementById('error').textContent") == "Write a query."
    fill(opened, "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>\nParis")
    opened.ask("document.getElementById('rank').click()")
    opened.until("!document.getElementById('results').hidden")
    assert opened.ask("document.title") == "crossrank playground"
    assert opened.ask("document.querySelectorAll('#ranking img, #ranking script').length") == 0


@in_browser
def test_a_key_is_asked_for_and_used(browser, start, stub):
    stub.compute = fixed_logits([1.0, 2.0])
    server = start(stub, api_keys={"someone": "0123456789"})
    browser.open(f"{server.url}/")
    fill(browser, "a\nb", query="q")
    browser.ask("document.getElementById('rank').click()")
    browser.until("document.getElementById('error').textContent")
    assert "key" in browser.ask("document.getElementById('error').textContent")
    browser.ask(
        "(() => { const key = document.getElementById('key'); key.value = '0123456789';"
        "key.dispatchEvent(new Event('change')); document.getElementById('rank').click(); })()"
    )
    browser.until("!document.getElementById('results').hidden")
    browser.until("document.getElementById('model').options.length === 2")
    assert [item["text"] for item in shown(browser)] == ["b", "a"]
