"""Page images that say something known: a word, a table, or a chart, drawn each time in another way.

Nothing tells two contents of a kind apart but what is drawn: place, size, grey levels and noise are random.
"""

import random

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

SIDE = 64
# Of each kind: what a page can say, as a query and a text layer say it.
CONTENTS = {
    "word": ("MAP", "SUN", "KEY", "OWL"),
    "table": ("one", "two", "four", "five"),
    "chart": ("first", "second", "third", "fourth"),
}


def draw(kind, content, seed):
    """Return a page that shows a word, a table of so many rows, or a chart whose bar of that place is the highest."""
    rng = random.Random(f"{kind} {content} {seed}")
    paper, ink = rng.randint(200, 255), rng.randint(0, 80)
    page = PIL.Image.new("L", (SIDE, SIDE), paper)
    pen = PIL.ImageDraw.Draw(page)
    {"word": _draw_word, "table": _draw_table, "chart": _draw_chart}[kind](pen, content, ink, rng)
    noise = np.random.default_rng(rng.randrange(2**32)).normal(0, 6, (SIDE, SIDE))
    return PIL.Image.fromarray((np.asarray(page) + noise).clip(0, 255).astype(np.uint8))


def _draw_word(pen, word, ink, rng):
    font = PIL.ImageFont.load_default(rng.randint(25, 27))
    left, top, right, bottom = pen.textbbox((0, 0), word, font=font)
    x, y = (max(0, (SIDE - size) // 2 + rng.randint(-3, 3)) for size in (right - left, bottom - top))
    pen.text((x - left, y - top), word, fill=ink, font=font)


def _draw_table(pen, content, ink, rng):
    num_rows = {"one": 1, "two": 2, "four": 4, "five": 5}[content]
    height, left, top = rng.randint(10, 11), rng.randint(2, 6), rng.randint(2, 5)
    right, middle = SIDE - rng.randint(2, 6), rng.randint(24, 40)
    for row in range(num_rows + 1):
        pen.line((left, top + row * height, right, top + row * height), fill=ink)
    for x in (left, middle, right):
        pen.line((x, top, x, top + num_rows * height), fill=ink)


def _draw_chart(pen, content, ink, rng):
    highest = CONTENTS["chart"].index(content)
    left, floor = rng.randint(1, 5), SIDE - rng.randint(2, 6)
    for bar in range(4):
        height = rng.randint(42, 52) if bar == highest else rng.randint(6, 24)
        x = left + 15 * bar
        pen.rectangle((x, floor - height, x + rng.randint(9, 12), floor), fill=ink)
