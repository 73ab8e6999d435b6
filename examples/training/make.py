"""Makes the small training files of this folder from the handbook and from questions about it.

    python examples/training/make.py

`train.jsonl` and `dev.jsonl` ask about different documents. Each question names the start of the paragraph that answers
it; its negatives are the other paragraphs of that document and paragraphs of others. `teacher.jsonl` is `train.jsonl`
with the scores of the shipped model, and `weak.jsonl` asks with the titles of the documents for their paragraphs.

`pages.train.jsonl` and `pages.dev.jsonl` ask some of these questions of pages: each paragraph is drawn on a page of its
own, `pages/DOCUMENT-pNUMBER.png`. The documents of the first have the paragraph as a text layer too.
"""

from __future__ import annotations

import json
import random
import textwrap
from pathlib import Path

import PIL.Image
import PIL.ImageDraw

from crossrank import Reranker

HERE = Path(__file__).parent
HANDBOOK = HERE.parent / "handbook"
NUM_NEGATIVES = {"train": 7, "dev": 14}
# The documents whose paragraphs are drawn.
PAGES = {"train": ("invoices.md", "refunds.md", "security-keys.md"), "dev": ("passwords.md",)}
PAGE_SIZE, LINE_CHARACTERS = (256, 192), 42

# file: questions, each with the first words of the paragraph that answers it
TRAIN = {
    "annual-leave.md": {
        "How many vacation days do I have?": "A full-time year",
        "Do unused days off expire at the end of the year?": "At least ten",
        "Can I take time off to move to a new flat?": "On top of",
    },
    "api-rate-limits.md": {
        "How many calls per minute does the Team plan allow?": "The Relay API",
        "How should a client react to status 429?": "Clients should",
        "How many messages fit into one batch request?": "The batch endpoint",
    },
    "booking-trips.md": {
        "How early must I book a flight abroad?": "Book trains",
        "May I fly premium economy?": "Take the train",
        "What does the company pay per kilometre for my own car?": "For rental cars",
        "My trip was called off, what do I do with the ticket?": "If a trip",
    },
    "incident-response.md": {
        "How often is the status page updated during a SEV1?": "During a SEV1",
        "Who becomes incident commander?": "Whoever notices",
        "When is the written review after an outage due?": "A written review",
    },
    "invoices.md": {
        "When are invoices sent?": "Invoices are created",
        "How do I get an invoice with a corrected address?": "To change",
        "What happens when my card is declined?": "When a payment",
        "From which amount do you accept purchase orders?": "Purchase orders",
    },
    "laptops.md": {
        "After how many years do I get a new computer?": "New colleagues",
        "My notebook was stolen, whom do I call?": "Report a lost",
        "I spilled coffee over my keyboard": "Spilled drinks",
        "When are system updates installed by force?": "System updates",
    },
    "on-call.md": {
        "How long is a shift of the rotation?": "Each service",
        "How fast must a page be acknowledged at night?": "The engineer",
        "How much is a week on call paid?": "A week on call",
    },
    "refunds.md": {
        "Can I get my money back for an annual plan?": "An annual plan",
        "Is a started month of a monthly plan refunded?": "A monthly plan",
        "How long does a refund take to arrive?": "Refunds go",
    },
    "security-keys.md": {
        "How many hardware keys does everybody get?": "Everybody receives",
        "I cannot find my security key": "If you lose",
        "Both of my keys are gone": "If both",
        "May I lend my key to a colleague?": "Keys are personal",
    },
    "vpn.md": {
        "Which systems can be reached without the VPN?": "The VPN is",
        "How do I install the VPN client?": "Install the client",
        "The tunnel says device not compliant": "Most failures",
        "When does a VPN session end?": "A session",
    },
    "webhooks.md": {
        "How often is a failed webhook call repeated?": "A call that",
        "How do I check the signature of a webhook?": "Each call",
        "Can the same event arrive two times?": "Events may",
    },
}
DEV = {
    "data-retention.md": {
        "How long are backups of the database kept?": "Backups are",
        "When is the text of a message deleted?": "The content",
        "Do application logs hold phone numbers?": "Application logs",
    },
    "parental-leave.md": {
        "How many weeks of leave do new parents get?": "Every parent",
        "How early do I announce my parental leave?": "Tell your team",
        "Can I work fewer hours after the baby break?": "After the leave",
    },
    "passwords.md": {
        "How long must a password be?": "Passwords are",
        "I forgot my password": "To reset",
        "Are shared logins allowed?": "Shared logins",
    },
    "support-and-sla.md": {
        "When is support reachable?": "Support answers",
        "Which availability is promised?": "The service level",
        "How do I claim a credit for an outage?": "If a month",
    },
    "travel-expenses.md": {
        "How much may a hotel room cost?": "A hotel room",
        "What do I do about a lost receipt?": "If a receipt",
        "Until when do I hand in my receipts?": "Take a photo",
    },
}


def paragraphs(name: str) -> list[str]:
    """Return the paragraphs of a document that are running text."""
    blocks = (HANDBOOK / name).read_text(encoding="utf-8").split("\n\n")
    return [" ".join(block.split()) for block in blocks if block.strip()[0] not in "#`|{-"]


def groups(questions: dict[str, dict[str, str]], num_negatives: int) -> list[dict]:
    """Return one group a question; no negative comes from a document that is asked about in the other split."""
    texts = {name: paragraphs(name) for name in questions}
    made = []
    for name, asked in questions.items():
        for question, start in asked.items():
            (positive,) = [text for text in texts[name] if text.startswith(start)]
            others = [text for other in texts if other != name for text in texts[other]]
            near = [text for text in texts[name] if text != positive]
            negatives = near + random.Random(question).sample(others, num_negatives - len(near))
            made.append(
                {"query_id": f"q{len(made)}", "query": question, "positives": [positive], "negatives": negatives}
            )
    return made


def weak_groups() -> list[dict]:
    """Return groups that nobody has labelled: a title and the first paragraph below it."""
    titles = {}
    for name in TRAIN:
        heading = (HANDBOOK / name).read_text(encoding="utf-8").splitlines()[0]
        titles[heading.lstrip("# ")] = paragraphs(name)
    return [
        {
            "query_id": f"w{i}",
            "query": title,
            "positives": [texts[0]],
            "negatives": [other[0] for key, other in titles.items() if key != title][:7],
        }
        for i, (title, texts) in enumerate(titles.items())
    ]


def with_teacher(rows: list[dict]) -> list[dict]:
    """Return the groups with a score of the shipped model for every document."""
    teacher = Reranker.load(dtype="float32")
    scored = []
    for row in rows:
        documents = row["positives"] + row["negatives"]
        scores = teacher.score([(row["query"], document) for document in documents])
        labels = [1] * len(row["positives"]) + [0] * len(row["negatives"])
        made = {"query_id": row["query_id"], "query": row["query"], "documents": documents}
        scored.append(made | {"labels": labels, "scores": [round(float(score), 3) for score in scores]})
    return scored


def page_rows(questions: dict[str, dict[str, str]], names: tuple[str, ...], *, with_text: bool) -> list[dict]:
    """Draw the pages of some documents, and return a row a question: its page, and the other pages as negatives."""
    rows = []
    for name in names:
        texts, stem = paragraphs(name), Path(name).stem
        pages = [
            {"text": text if with_text else "", "image": f"pages/{stem}-p{number}.png", "doc_id": stem}
            for number, text in enumerate(texts, start=1)
        ]
        for page, text in zip(pages, texts, strict=True):
            draw_page(text).save(HERE / page["image"], optimize=True)
        for question, start in questions[name].items():
            positives = [page for page, text in zip(pages, texts, strict=True) if text.startswith(start)]
            rows.append(
                {
                    "query": question,
                    "positives": positives,
                    "negatives": [page for page in pages if page not in positives],
                }
            )
    return rows


def draw_page(text: str) -> PIL.Image.Image:
    """Return a small page with a text on it, black on white."""
    page = PIL.Image.new("1", PAGE_SIZE, 1)
    PIL.ImageDraw.Draw(page).multiline_text((6, 6), "\n".join(textwrap.wrap(text, LINE_CHARACTERS)), fill=0)
    return page


def main() -> None:
    (HERE / "pages").mkdir(exist_ok=True)
    train, dev = groups(TRAIN, NUM_NEGATIVES["train"]), groups(DEV, NUM_NEGATIVES["dev"])
    files = {"train": train, "dev": dev, "teacher": with_teacher(train), "weak": weak_groups()}
    files["pages.train"] = page_rows(TRAIN, PAGES["train"], with_text=True)
    files["pages.dev"] = page_rows(DEV, PAGES["dev"], with_text=False)
    for name, rows in files.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (HERE / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
