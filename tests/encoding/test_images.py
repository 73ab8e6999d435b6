import base64
import io
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image, features

from crossrank import Document
from crossrank.encoding import images
from crossrank.encoding.images import ImageSource, with_image_sources
from crossrank.errors import InputError


def noise(width=12, height=8):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def file_bytes(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def source(image):
    return ImageSource(image, where="document 7")


def test_every_kind_of_source_gives_the_same_pixels(tmp_path):
    image, data = noise(), file_bytes(noise())
    (tmp_path / "page.png").write_bytes(data)
    encoded = base64.b64encode(data).decode()
    given = [
        image,
        data,
        bytearray(data),
        memoryview(data),
        tmp_path / "page.png",
        str(tmp_path / "page.png"),
        f"data:image/png;base64,{encoded}",
        f"data:image/png;base64,{quote(encoded)}",
        f"data:image/png,{quote(data)}",
        f"DATA:image/png; Base64,{encoded}",
    ]
    for one in given:
        read = source(one)
        assert read.size == (12, 8)
        np.testing.assert_array_equal(np.asarray(read.load()), np.asarray(image))
    assert len({source(one).key for one in given[1:]}) == 1, "equal files have one key"
    assert source(image).key == source(noise()).key != source(noise(13)).key


def test_nothing_is_read_before_it_is_asked_for(tmp_path):
    late = source(tmp_path / "page.png")
    with pytest.raises(InputError, match=r"document 7.*page\.png.*No such file"):
        late.size  # noqa: B018
    (tmp_path / "page.png").write_bytes(file_bytes(noise()))
    assert late.size == (12, 8)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pages_are_turned_upright(orientation, kind):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_bytes(noise(), kind, exif=exif)
    expected = Image.open(io.BytesIO(data))
    expected.load()
    expected = ImageOps.exif_transpose(expected)
    read = source(data)
    assert read.size == expected.size == ((8, 12) if orientation >= 5 else (12, 8))
    np.testing.assert_array_equal(np.asarray(read.load()), np.asarray(expected))


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    read = source(file_bytes(noise(), "JPEG", exif=exif))
    assert read.size == read.load().size == (12, 8), "a size that differed would choose another grid"


def test_a_name_that_begins_with_a_tilde_is_a_name(tmp_path, monkeypatch):
    (tmp_path / "~draft.png").write_bytes(file_bytes(noise()))
    monkeypatch.chdir(tmp_path)
    assert source("~draft.png").size == (12, 8)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert source("~/~draft.png").size == (12, 8)


def test_a_pil_image_with_an_orientation_is_turned_and_left_as_it_is():
    exif = Image.Exif()
    exif[0x0112] = 6
    mine = Image.open(io.BytesIO(file_bytes(noise(), "JPEG", exif=exif)))
    assert source(mine).load().size == (8, 12) and mine.size == (12, 8)


def test_a_pil_image_that_is_not_decoded_yet_may_be_given_to_many_threads():
    data = file_bytes(noise(1200, 900))
    expected = np.asarray(noise(1200, 900))
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            mine = Image.open(io.BytesIO(data))
            barrier = threading.Barrier(4)

            def read(mine=mine, barrier=barrier):
                barrier.wait()
                return np.asarray(source(mine).load())

            for pixels in [future.result() for future in [pool.submit(read) for _ in range(4)]]:
                np.testing.assert_array_equal(pixels, expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_images_are_handed_over_in_their_own_mode(mode):
    assert source(noise().convert(mode)).load().mode == mode


def test_palette_grey_and_cmyk_files_keep_their_mode():
    assert source(file_bytes(noise().convert("P"))).load().mode == "P"
    assert source(file_bytes(noise().convert("L"))).load().mode == "L"
    assert source(file_bytes(noise().convert("CMYK"), "JPEG")).load().mode == "CMYK"


def test_sixteen_bits_are_scaled_and_not_clipped():
    deep = (np.arange(96, dtype=np.uint16).reshape(8, 12) * 680).astype(np.uint16)
    for given in (Image.fromarray(deep), file_bytes(Image.fromarray(deep)), file_bytes(Image.fromarray(deep), "TIFF")):
        read = source(given).load()
        assert read.mode == "L"
        np.testing.assert_array_equal(np.asarray(read), deep >> 8)
    shallow = np.arange(96, dtype=np.int32).reshape(8, 12)
    np.testing.assert_array_equal(np.asarray(source(Image.fromarray(shallow)).load()), shallow)


def test_a_large_scan_of_sixteen_bits_takes_little_more_memory_than_its_pixels():
    scan = Image.fromarray(np.zeros((3000, 3000), np.uint16))
    tracemalloc.start()
    source(scan).load()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    print(f"peak of {peak / 2**20:.0f} MiB for 17 MiB of pixels")
    assert peak < 4 * 3000 * 3000 * 2


def test_of_an_animation_the_first_frame_is_read():
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "green")]
    for kind in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if kind == "WEBP" else {}
        data = file_bytes(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert source(data).load().convert("RGB").getpixel((4, 4)) == (255, 0, 0), kind


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"this is a text", "not an image of a kind that is read"),
        (file_bytes(noise(60, 60))[:2000], "damaged or cut short"),
        (file_bytes(noise(60, 60), "JPEG")[:900], "damaged or cut short"),
        # The offset of the pixels becomes a text.
        (file_bytes(noise(), "TIFF").replace(b"\x11\x01\x04\x00", b"\x11\x01\x02\x00"), "damaged or cut short"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image of a kind"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image of a kind"),
        (Image.new("F", (4, 4)), "mode 'F' are not read"),
        ("https://example.org/page.png", "URLs are not fetched"),
        ("HTTPS://example.org/page.png", "URLs are not fetched"),
        ("data:image/png;base64", "a comma"),
        ("data:image/png;base64,@@@", "not valid base64"),
        ("data:image/png;base64,", "empty"),
        ("nowhere/page.png", "No such file"),
        ("a\x00b.png", "not a path|embedded null"),
        (12, "not a int"),
        (["page.png"], "not a list"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_document(given, message):
    with pytest.raises(InputError, match=message) as problem:
        source(given).load()
    print(problem.value)
    assert "document 7" in str(problem.value) and len(str(problem.value)) < 400


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_a_plugin_that_fails_in_its_own_way_is_a_damaged_image():
    with pytest.raises(InputError, match=r"document 7.*damaged or cut short"):
        source(file_bytes(noise(), "AVIF").replace(b"iloc", b"free")).load()


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(InputError, match=r"document 7.*directory"):
        source(tmp_path).load()


def test_decompression_bombs_are_refused_before_they_are_decoded(monkeypatch):
    bomb = file_bytes(Image.new("1", (20000, 20000)))
    assert len(bomb) < 100_000
    for ask in (lambda: source(bomb).size, lambda: source(bomb).load()):
        with pytest.raises(InputError, match=r"document 7.*more than the 100000000 that are decoded"):
            ask()
    with pytest.raises(InputError, match="12000 x 10000 pixels"):
        source(Image.new("1", (12000, 10000))).load()
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    for given in (file_bytes(noise(60, 60)), f"data:image/png;base64,{'A' * 400}"):
        with pytest.raises(InputError, match="more than the 100 that are read"):
            source(given).load()


def test_large_pages_within_the_limit_are_read_without_a_warning(recwarn):
    read = source(file_bytes(Image.new("1", (9900, 9900))))
    assert read.size == (9900, 9900)
    assert not [warning for warning in recwarn if "Decompression" in str(warning.message)]


def test_documents_get_sources_that_name_them_and_share_images():
    image = noise()
    documents = ["text", Document("a"), Document(image=image), Document(image=image, id="p2"), Document(image=noise(5))]
    prepared = with_image_sources(documents)
    assert prepared[:2] == documents[:2]
    assert prepared[2].image is prepared[3].image and prepared[3].id == "p2"
    assert "document 2" in prepared[2].image.where and "document 4" in prepared[4].image.where
    assert with_image_sources(prepared)[2].image is prepared[2].image
