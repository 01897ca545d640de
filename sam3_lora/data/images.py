"""Opens image files as RGB pixels, in the size and orientation that the annotations refer to."""

from __future__ import annotations

import contextlib
import math
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sam3_lora.data.records import ImageRecord
from sam3_lora.errors import DataError
from sam3_lora.files import open_regular

# What Pillow's decoders raise on files that are missing, damaged or no images, among them files made to do harm.
BROKEN = (
    *(OSError, ValueError, TypeError, SyntaxError, EOFError, LookupError, ArithmeticError, AttributeError),
    *(MemoryError, RuntimeError, struct.error, zlib.error, Image.DecompressionBombError),
)
MAX_PIXELS = 64_000_000  # of an image that is shown or examined: decoding more takes gigabytes
# Pillow warns of odd metadata and of large sizes; here these are findings, or nothing. Switched off for the whole
# process, since warnings.catch_warnings() is not safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")
_QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations by which width and height change places
with contextlib.suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # kinds of files, from byte 8 on
HEIC, HEIC_FIX = "HEIC, which only the package pillow-heif opens", "Run pip install pillow-heif, or convert it to JPEG"
LAB, LAB_FIX = "the color mode LAB, which cannot be read", "Convert it to RGB"


def load_image(record: ImageRecord, enough: int | None = None, max_pixels: int | None = None) -> np.ndarray:
    """An image's pixels, uint8 (H, W, 3) RGB.

    An EXIF orientation is applied if the record's size is that of the picture as viewers show it, or, where both sizes
    fit, unless the record says otherwise. The size may still differ from the record's, which annotations refer to. Of a
    tile it is cut from the picture.

    Args:
        record: the image.
        enough: pixels of the longer side that are enough: a JPEG is then decoded at a half, a quarter or an
            eighth of its size as long as that leaves as many, which is much faster.
        max_pixels: of an image that is decoded; None: no limit.

    Raises:
        DataError: the file is missing, has too many pixels or cannot be decoded.
    """
    try:
        with open_image(record.path) as picture:
            _require_pixels(picture, record, max_pixels)
            header = ImageHeader(picture.size, orientation_of(picture))
            size_hw = (record.height, record.width) if record.window is None else record.window.image_hw
            rotate = header.is_applied((size_hw[1], size_hw[0]), record.orientation)
            if enough is not None:
                scale = enough / max(picture.size)
                picture.draft(None, (math.ceil(picture.width * scale), math.ceil(picture.height * scale)))
            pixels = to_rgb(ImageOps.exif_transpose(picture) if rotate else picture, record.path)
            return np.array(pixels) if record.window is None else record.window.crop(np.asarray(pixels)).copy()
    except FileNotFoundError:
        raise DataError(
            f"Expected the image {record.path}, but it is missing",
            "Put it there, or delete its entry from the annotation file",
        ) from None
    except BROKEN as error:
        require_no_heic(record.path)
        raise DataError(
            f"Expected an image in {record.path}, but it cannot be decoded ({why_broken(error)})",
            "Replace the file, or delete its entry from the annotation file",
        ) from None


@contextlib.contextmanager
def open_image(path: str | Path) -> Iterator[Image.Image]:
    """An image file as a picture that is not decoded yet. Raises what :data:`BROKEN` lists."""
    # Of a path Pillow would map some formats, and a mapped file that is cut off meanwhile ends the process.
    with open_regular(path) as file, Image.open(file) as picture:
        yield picture


def why_broken(error: BaseException) -> str:
    """Why an image cannot be opened, in a few words: what one of the errors in :data:`BROKEN` says."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def is_heic(head: bytes) -> bool:
    """Whether a file that begins with these bytes is HEIC, as iPhones take pictures, and nothing here opens that."""
    return "HEIF" not in Image.OPEN and head[4:8] == b"ftyp" and head[8:12] in _HEIC


def require_no_heic(path: Path) -> None:
    """Raises DataError for a HEIC file that could not be opened."""
    if unreadable_kind(path) == "image-heic":
        raise DataError(f"The image {path} is {HEIC}", HEIC_FIX)


def unreadable_kind(path: Path) -> str:
    """The kind of finding of a file that cannot be opened as an image."""
    head = b""
    with contextlib.suppress(OSError, ValueError), open_regular(path) as file:
        head = file.read(12)
    return "image-heic" if is_heic(head) else "image-unreadable"


def _require_pixels(picture: Image.Image, record: ImageRecord, limit: int | None) -> None:
    if limit is not None and picture.width * picture.height > limit:
        raise DataError(
            f"Expected an image of at most {limit // 10**6} million pixels to show, but {record.path} has "
            f"{picture.width} x {picture.height}",
            "Cut the image into tiles of about 1,000 to 2,000 pixels a side, and the annotations with it",
        )


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What is known of an image file without decoding it.

    Attributes:
        size: (width, height) of the stored pixels.
        orientation: EXIF's, by which viewers rotate or mirror the picture; 1 = as stored.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) of the picture as viewers show it."""
        return self.size[::-1] if self.orientation in _QUARTER_TURNS else self.size

    def annotated(self, size: tuple[int, int]) -> str:
        """Whether annotations that refer to this size were made on the picture as "shown" or as "stored"; "" if the
        size does not tell."""
        for fits in (lambda one: one == size, lambda one: size_finding(one, size) == "image-scaled"):
            if fits(self.size) != fits(self.shown_size):
                return "stored" if fits(self.size) else "shown"
        return ""

    def is_applied(self, size: tuple[int, int], otherwise: str = "") -> bool:
        """Whether the orientation is applied.

        Args:
            size: (width, height) that the annotations refer to.
            otherwise: "stored" if they were made on the stored pixels where the size does not tell.
        """
        return self.orientation > 1 and (self.annotated(size) or otherwise) != "stored"

    def used_size(self, size: tuple[int, int], otherwise: str = "") -> tuple[int, int]:
        """(width, height) of the picture as it is used; see :meth:`is_applied`."""
        return self.shown_size if self.is_applied(size, otherwise) else self.size

    def size_finding(self, size: tuple[int, int], otherwise: str = "") -> str:
        """As :func:`size_finding`, of the picture as it is used; see :meth:`is_applied`."""
        return size_finding(self.used_size(size, otherwise), size)


def size_on_disk(path: Path) -> ImageHeader | None:
    """What a file's header says; None if it is not an image."""
    try:
        with open_image(path) as picture:
            # Of a PNG Pillow decodes all pixels to look for an orientation behind them.
            is_plain = picture.format == "PNG" and "exif" not in picture.info and not _has_late_metadata(path)
            return ImageHeader(picture.size, 1 if is_plain else orientation_of(picture))
    except BROKEN:
        return None


def _has_late_metadata(path: Path) -> bool:
    """Whether a PNG has metadata behind its pixels."""
    with open_regular(path) as file:
        file.seek(8)
        behind = False
        while len(head := file.read(8)) == 8:  # of a chunk: its length and its kind
            behind = behind or head[4:] == b"IDAT"
            if behind and head[4:] in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
                return True
            file.seek(int.from_bytes(head[:4], "big") + 4, 1)
    return False


def size_finding(size: tuple[int, int], expected: tuple[int, int]) -> str:
    """The kind of finding of an image whose size is not what the annotation file says; "" if it is.

    If the proportions are equal (up to a pixel of rounding) the image was scaled, which training takes into account: it
    divides by the size in the annotation file.

    Args:
        size: (width, height) of the image file.
        expected: (width, height) in the annotation file.
    """
    if size == expected:
        return ""
    (width, height), (file_width, file_height) = size, expected
    equal = abs(width * file_height - height * file_width) <= max(expected)
    return "image-scaled" if equal else "size-mismatch"


def orientation_of(picture: Image.Image) -> int:
    """The EXIF orientation that is still to be applied, 1 to 8; Pillow applies that of a TIFF itself."""
    value = picture.getexif().get(ExifTags.Base.Orientation) if picture.format != "TIFF" else 1
    return next((orientation for orientation in range(2, 9) if orientation == value), 1)


def to_rgb(picture: Image.Image, name: str | Path = "") -> Image.Image:
    """A picture as 8-bit RGB; deeper gray values are scaled, which Pillow's own conversion does not do.

    Args:
        picture: not decoded yet, or decoded.
        name: for the error.

    Raises:
        DataError: the picture has the color mode LAB.
    """
    if picture.mode == "LAB":
        raise DataError(f"The image {name} has {LAB}", LAB_FIX)
    if picture.mode.startswith("I;16"):  # 16 bits per pixel: Pillow would cut off everything above 255
        picture = Image.fromarray((np.asarray(picture) // 256).astype(np.uint8))
    elif picture.mode in ("I", "F"):  # integers or floats of any range: the lowest becomes black
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        low, high = min(values.min(), 0.0), values.max()
        full = next((top for top in (1.0, 255.0, 65535.0) if high <= top), high)
        picture = Image.fromarray(((values - low) / max(full - low, 1e-12) * 255).astype(np.uint8))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def read_image(image: np.ndarray | Image.Image | str | Path) -> np.ndarray:
    """An image as (H, W, 3) uint8 RGB; PIL images and files are rotated as their EXIF data says.

    Raises:
        DataError: an array of another shape or type, or a file that cannot be read.
    """
    if isinstance(image, Image.Image):
        return np.asarray(to_rgb(ImageOps.exif_transpose(image)))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            raise DataError(
                f"Expected an image of shape (H, W, 3) and type uint8, got {image.shape} and {image.dtype}",
                "Convert it to 8-bit RGB",
            )
        return image
    if Path(image).is_dir():
        raise DataError(
            f"Expected one image, but {image} is a folder", "Give a file; the inference page takes whole folders"
        )
    try:
        with open_image(image) as file:
            return np.asarray(to_rgb(ImageOps.exif_transpose(file), image))
    except FileNotFoundError:
        raise DataError(f"Expected an image at {image}, but there is no such file", "Check the path") from None
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise DataError(
            f"The image {image} has more than {limit:.0f} million pixels", "Scale it down, or cut it into tiles"
        ) from None
    except BROKEN as error:
        require_no_heic(Path(image))
        raise DataError(
            f"The file {image} cannot be read as an image ({why_broken(error)})", "Give an intact JPEG or PNG file"
        ) from None
