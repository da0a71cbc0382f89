"""Pictures as files: what each kind is read as, and the one line about those that cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bench.cli import app
from problems import images
from problems._picture_files import read_grey
from problems.analysis_l1 import AnalysisL1, Settings

SIZE = (12, 10)
RED, RED_GREY = (200, 30, 60), 84 / 255  # 0.299 * 200 + 0.587 * 30 + 0.114 * 60 = 84.25
HALF_RED_GREY = 169 / 255  # 128/255 of it on white is (227, 142, 157): 169.1

# --- what they are read as --------------------------------------------------------------------------------------------


def _rgb(path: Path) -> None:
    Image.new("RGB", SIZE, RED).save(path)


def _cmyk(path: Path) -> None:
    """JPEG holds the ink as 255 - ink, as Adobe does; TIFF as it is."""
    Image.new("CMYK", SIZE, (55, 225, 195, 0)).save(path)


def _grey_alpha(path: Path) -> None:
    Image.new("LA", SIZE, (100, 128)).save(path)


def _half_red(path: Path) -> None:
    Image.new("RGBA", SIZE, (*RED, 128)).save(path)


def _clear(path: Path) -> None:
    Image.new("RGBA", SIZE, (*RED, 0)).save(path)


def _palette(path: Path) -> None:
    picture = Image.new("P", SIZE, 3)
    picture.putpalette([0, 0, 0, 9, 9, 9, 255, 255, 255, *RED])
    picture.save(path)


def _clear_palette(path: Path) -> None:
    picture = Image.new("P", SIZE, 1)
    picture.putpalette([0, 0, 0, *RED])
    picture.save(path, transparency=1)


def _clear_colour(path: Path) -> None:
    """One colour of an RGB picture stands for no colour."""
    Image.new("RGB", SIZE, RED).save(path, transparency=RED)


def _bits(path: Path) -> None:
    Image.new("1", SIZE, 1).save(path)


def _grey(path: Path) -> None:
    Image.new("L", SIZE, 77).save(path)


def _grey_16(path: Path) -> None:
    Image.fromarray(np.full(SIZE[::-1], 0x1234, np.uint16)).save(path)


def _tiff(path: Path, order: str, bits: int, photometric: int, kind: int, values: np.ndarray) -> None:
    """A TIFF file by its specification: byte order, bits, 0 where white is 0, and 1 for integers or 3 for floats."""
    end, data = {"II": "<", "MM": ">"}[order], values.tobytes()
    tags = [(256, values.shape[1]), (257, values.shape[0]), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8 + 2 + 10 * 12 + 4), (277, 1), (278, values.shape[0]), (279, len(data)), (339, kind)]
    entries = b"".join(struct.pack(end + "HHII", tag, 4, 1, value) for tag, value in tags)
    path.write_bytes(order.encode() + struct.pack(end + "HIH", 42, 8, 10) + entries + bytes(4) + data)


def _sixteen(order: str, photometric: int) -> Callable[[Path], None]:
    values = np.full(SIZE[::-1], 0x1234, "<u2" if order == "II" else ">u2")
    return lambda path: _tiff(path, order, 16, photometric, 1, values)


def _float(order: str) -> Callable[[Path], None]:
    values = np.full(SIZE[::-1], 0.25, "<f4" if order == "II" else ">f4")
    return lambda path: _tiff(path, order, 32, 1, 3, values)


def _twelve(path: Path) -> None:
    """Two values in three bytes: 0x800 and 0x800 of at most 0xFFF."""
    values = np.tile(np.array([0x80, 0x08, 0x00], np.uint8), (SIZE[1], SIZE[0] // 2))
    _tiff(path, "II", 12, 1, 1, values)
    data = bytearray(path.read_bytes())
    data[18:22] = struct.pack("<I", SIZE[0])  # as wide as the picture, not as its bytes
    path.write_bytes(bytes(data))


def _png(path: Path, size: tuple[int, int], bits: int, kind: int, rows: bytes) -> None:
    """A PNG by its specification; `kind` is 0 for grey values and 2 for colours."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", *size, bits, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def _colour_16(path: Path) -> None:
    row = b"\0" + np.tile(np.array([257 * part for part in RED], ">u2"), SIZE[0]).tobytes()
    _png(path, SIZE, 16, 2, SIZE[1] * row)


READ = [
    ("rgb.png", _rgb, RED_GREY, 0.0),
    ("rgb.bmp", _rgb, RED_GREY, 0.0),
    ("rgb.webp", _rgb, RED_GREY, 3 / 255),  # lossy
    ("rgb.jpg", _rgb, RED_GREY, 2 / 255),  # lossy
    ("cmyk.jpg", _cmyk, RED_GREY, 2 / 255),
    ("cmyk.tif", _cmyk, RED_GREY, 0.0),
    ("grey_alpha.png", _grey_alpha, 177 / 255, 0.0),  # 100 * 128 / 255 + 255 * 127 / 255 = 177.2
    ("half_red.png", _half_red, HALF_RED_GREY, 0.0),
    ("half_red.tif", _half_red, HALF_RED_GREY, 0.0),
    ("clear.png", _clear, 1.0, 0.0),
    ("palette.png", _palette, RED_GREY, 0.0),
    ("palette.gif", _palette, RED_GREY, 0.0),
    ("clear_palette.png", _clear_palette, 1.0, 0.0),
    ("clear_palette.gif", _clear_palette, 1.0, 0.0),
    ("clear_colour.png", _clear_colour, 1.0, 0.0),
    ("bits.png", _bits, 1.0, 0.0),
    ("bits.tif", _bits, 1.0, 0.0),
    ("grey.png", _grey, 77 / 255, 0.0),
    ("grey.JPEG", _grey, 77 / 255, 0.0),
    ("grey_16.png", _grey_16, 0x1234 / 65535, 0.0),
    ("grey_16.tif", _sixteen("II", 1), 0x1234 / 65535, 0.0),
    ("grey_16_big_endian.tif", _sixteen("MM", 1), 0x1234 / 65535, 0.0),
    ("grey_16_white_is_0.tif", _sixteen("II", 0), 1 - 0x1234 / 65535, 0.0),
    ("grey_12.tif", _twelve, 0x800 / 4095, 0.0),
    ("colour_16.png", _colour_16, RED_GREY, 0.0),
    ("float.tif", _float("II"), 0.25, 0.0),
    ("float_big_endian.tif", _float("MM"), 0.25, 0.0),
]


@pytest.mark.parametrize(("name", "make", "grey", "lossy"), READ, ids=[name for name, *_ in READ])
def test_a_picture_is_read_as_it_looks(
    tmp_path: Path, name: str, make: Callable[[Path], None], grey: float, lossy: float
) -> None:
    make(tmp_path / name)
    x = images.picture(name, str(tmp_path))
    assert (x.shape, x.dtype) == (SIZE[::-1], np.float64)
    assert np.abs(x - grey).max() <= lossy + 1e-15  # 1e-15: 1/255 is rounded


def test_every_colour_has_the_documented_grey_value(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    Image.fromarray(colours).save(tmp_path / "colours.png")
    red, green, blue = (colours[..., channel].astype(int) for channel in range(3))
    luma = (19595 * red + 38470 * green + 7471 * blue + 32768) >> 16
    assert np.array_equal(read_grey(tmp_path / "colours.png"), luma * (1 / 255))
    assert np.abs(luma - (0.299 * red + 0.587 * green + 0.114 * blue)).max() <= 0.501  # rounded


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png", "turned.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_cameras_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    """A bright upper left quarter and a grey upper right one; EXIF says where row 0 and column 0 are."""
    upright = np.full((32, 48), 40, np.uint8)
    upright[:16, :24], upright[:16, 24:] = 250, 140
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / name, exif=exif)
    assert np.abs(read_grey(tmp_path / name) - upright / 255).max() <= 3 / 255  # JPEG's own


def test_of_a_cameras_file_with_a_preview_it_is_the_first(tmp_path: Path) -> None:
    large, preview = (Image.new("RGB", (side, side), RED) for side in (32, 16))
    large.save(tmp_path / "camera.jpg", format="MPO", save_all=True, append_images=[preview])
    assert read_grey(tmp_path / "camera.jpg").shape == (32, 32)


# --- what is refused --------------------------------------------------------------------------------------------------


def _animation(path: Path) -> None:
    Image.new("L", SIZE, 0).save(path, save_all=True, append_images=[Image.new("L", SIZE, 255)])


def _cut(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.touch()


def _text(path: Path) -> None:
    path.write_text("<html>404: not found</html>")


def _bomb(path: Path) -> None:
    _png(path, (20000, 20000), 1, 0, b"")


def _large(path: Path) -> None:
    _png(path, (10000, 10000), 1, 0, b"")


def _broken_link(path: Path) -> None:
    path.symlink_to(path.with_name("absent"))


def _bright_floats(path: Path) -> None:
    _tiff(path, "II", 32, 1, 3, np.full((4, 4), 200.0, "<f4"))


def _nan(path: Path) -> None:
    _tiff(path, "II", 32, 1, 3, np.full((4, 4), np.nan, "<f4"))


def _grey_32(path: Path) -> None:
    _tiff(path, "II", 32, 1, 1, np.full((4, 4), 7, "<u4"))


REFUSED = [
    ("animation.gif", _animation, "2 pictures"),
    ("animation.png", _animation, "2 pictures"),
    ("pages.tif", _animation, "2 pictures"),
    ("cut.png", _cut, "truncated"),
    ("cut.jpg", _cut, "truncated"),
    ("cut.bmp", _cut, "truncated"),
    ("cut.tif", _cut, ""),
    ("empty.png", _empty, "cannot identify"),
    ("empty.jpg", _empty, "cannot identify"),
    ("page.jpg", _text, "cannot identify"),
    ("bomb.png", _bomb, "decompression bomb"),
    ("large.png", _large, "decompression bomb"),
    ("link.png", _broken_link, "No such file"),
    ("bright.tif", _bright_floats, "between 200 and 200"),
    ("nan.tif", _nan, "between nan and nan"),
    ("grey_32.tif", _grey_32, "integers of 32 bits"),
]


@pytest.mark.parametrize(("name", "make", "said"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_what_cannot_be_read_is_one_line_that_names_the_file(
    tmp_path: Path, name: str, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / name)
    with pytest.raises(ValueError, match=r"picture .* cannot be read: ") as raised:
        AnalysisL1.build(Settings(signal="patches", n=16, folder=str(tmp_path)))
    line = str(raised.value)
    assert line.startswith(f"picture {tmp_path / name} cannot be read: ")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "tif"])
def test_a_picture_that_is_cut_anywhere_is_whole_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"one.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 20), dtype=np.uint8)).save(path)
    whole, data = read_grey(path), path.read_bytes()
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        try:
            x = read_grey(path)
        except ValueError as error:
            said = str(error)
        else:
            said = str(path)
            np.testing.assert_array_equal(x, whole)
        assert str(path) in said


def _denoise(tmp_path: Path, folder: Path) -> Result:
    config = tmp_path / "denoise.toml"
    config.write_text('[[denoiser]]\nkey = "total_variation"\n')
    return CliRunner().invoke(app, ["denoise", str(config), "--folder", str(folder), "--out", str(tmp_path / "run")])


def test_a_folder_that_is_none_and_one_without_a_picture(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "notes.txt").write_text("no picture")
    (tmp_path / "others" / "folder.png").mkdir()
    (tmp_path / "file.png").touch()
    said = {
        "absent": "does not exist",
        "empty": "holds no picture (png, jpg,",
        "others": "holds no picture",
        "file.png": "is a file, not a folder",
    }
    for name, words in said.items():
        result = _denoise(tmp_path, tmp_path / name)
        assert result.exit_code == 2, name
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"error: {tmp_path / 'denoise.toml'}: pictures: folder '{tmp_path / name}' {words}")
        with pytest.raises(ValueError, match="folder"):
            AnalysisL1.build(Settings(signal="patches", n=16, folder=str(tmp_path / name)))


def test_pictures_without_room_for_a_patch_are_named_with_their_sizes(tmp_path: Path) -> None:
    Image.new("L", (7, 30)).save(tmp_path / "narrow.png")
    Image.new("L", (30, 5)).save(tmp_path / "low.png")
    with pytest.raises(
        ValueError, match=r"no picture has room for a patch of 8 x 8 pixels: low.png has 5 x 30, narrow"
    ):
        AnalysisL1.build(Settings(signal="patches", n=64, folder=str(tmp_path)))
