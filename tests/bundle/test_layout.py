import pytest

from edgepack.bundle.layout import ALIGNMENT_BYTES, Entry, check_names, directory_place, entries_in, layout_of
from edgepack.core.errors import BundleError


def entry(name: str, size_bytes: int = 5) -> Entry:
    return Entry(name=name, size_bytes=size_bytes, crc32=7)


@pytest.mark.parametrize("length", range(1, 130))
def test_data_are_aligned_for_every_length_of_a_name(length: int) -> None:
    layout = layout_of([entry("a" * length), entry("b")])

    assert [place.data_offset % ALIGNMENT_BYTES for place in layout.placed] == [0, 0]


def test_the_manifest_comes_first_and_the_rest_is_sorted() -> None:
    layout = layout_of([entry("b"), entry("manifest.json"), entry("Z"), entry("a/x")])

    assert [place.entry.name for place in layout.placed] == ["manifest.json", "Z", "a/x", "b"]


def test_entries_are_read_back_from_the_directory() -> None:
    layout = layout_of([entry("manifest.json", 0), entry("a", 70)])
    offset, size = directory_place(layout.tail[-22:])

    assert offset == layout.tail_offset
    assert entries_in(layout.tail[:size]) == (entry("manifest.json", 0), entry("a", 70))


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "../x", "a/../x", "a/./x", "./a", "a//b", "a/", "a\\b", "C:/x", "C:x", "a\0b", "a\nb", ".hidden",
        "trailing.", "space here", "é", "~/x", "-rf", "nul", "model/CON.txt", "a" * 201,
    ],
)  # fmt: skip
def test_unsafe_names_are_refused(name: str) -> None:
    with pytest.raises(BundleError, match="is not allowed"):
        check_names([name])


def test_names_that_clash_are_refused() -> None:
    with pytest.raises(BundleError, match="same name"):
        check_names(["a", "a"])
    with pytest.raises(BundleError, match="same name"):
        check_names(["README.md", "readme.md"])
    with pytest.raises(BundleError, match="is a file and also the folder"):
        check_names(["model/x", "Model"])


def test_more_than_four_gibibytes_are_refused() -> None:
    with pytest.raises(BundleError, match="4 GiB"):
        layout_of([entry("a", 2**31), entry("b", 2**31)])
