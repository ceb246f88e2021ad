"""A team's list of devices: where it is found, and what is said about mistakes in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edgepack.core.errors import RecipeError
from edgepack.devices.inventory import Device, load_inventory

DOCS = Path(__file__).resolve().parents[2] / "docs"
BOARD = '[devices.pi5]\naddress = "ssh://pi@board"\n'


@pytest.fixture(autouse=True)
def nothing_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No list in the current folder, the environment or the config folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("EDGEPACK_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def write(file: Path, text: str = BOARD) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_a_device_has_all_that_its_table_says(tmp_path: Path) -> None:
    keys = 'python = "/usr/bin/python3"\npython_path = ["/opt/litert"]\ntags = ["kitchen"]\ncores = [2, 3]\ncool_below_c = 50\n'
    file = write(tmp_path / "devices.toml", BOARD + keys)

    assert load_inventory(file) == {
        "pi5": Device(
            name="pi5",
            address="ssh://pi@board",
            python="/usr/bin/python3",
            python_path=("/opt/litert",),
            tags=("kitchen",),
            cores=(2, 3),
            cool_below_c=50.0,
        )
    }


def test_without_a_list_there_are_no_devices() -> None:
    assert load_inventory() == {}


def test_the_nearest_list_counts_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(path: Path | None = None) -> list[str]:
        return list(load_inventory(path, beside=tmp_path / "recipe"))

    write(tmp_path / "config" / "edgepack" / "devices.toml", BOARD.replace("pi5", "config"))
    assert found() == ["config"]
    write(tmp_path / "here" / "devices.toml", BOARD.replace("pi5", "here"))
    assert found() == ["here"]
    write(tmp_path / "recipe" / "devices.toml", BOARD.replace("pi5", "recipe"))
    assert found() == ["recipe"]
    monkeypatch.setenv("EDGEPACK_DEVICES", str(write(tmp_path / "env.toml", BOARD.replace("pi5", "env"))))
    assert found() == ["env"]
    assert found(write(tmp_path / "given.toml", BOARD.replace("pi5", "given"))) == ["given"]


def test_a_list_that_is_named_and_missing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_DEVICES", str(tmp_path / "none.toml"))

    with pytest.raises(RecipeError, match=r"none\.toml: this list of devices can't be read: No such file"):
        load_inventory()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOARD + "pyton = 'x'", r"devices\.pi5: unknown key 'pyton' \(did you mean 'python'\?\)"),
        ("[device.pi5]\naddress = 'local'", r"unknown key 'device' \(did you mean 'devices'\?\)"),
        ("[devices.pi5]\ntags = []", r"devices\.pi5\.address: this key is required and missing"),
        ("[devices.pi5]\naddress = 'board'", r"'board' is no address; write 'local', 'ssh://"),
        ("[devices.pi5]\naddress = 'ssh://'", r"'ssh://' is no address"),
        (BOARD + "cores = []", r"devices\.pi5\.cores: .*at least 1 item"),
        (BOARD + "cores = [-1]", r"devices\.pi5\.cores\.0: .*greater than or equal to 0"),
        (BOARD + "name = 'x'", r"devices\.pi5\.name: a device is named by its heading"),
        ("[devices.'a b']\naddress = 'local'", r"devices\.a b\.name: .*pattern"),
        ("devices = 3", r"devices: .*dictionary, got 3"),
        ("[devices\n", r"not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "devices.toml", text)

    with pytest.raises(RecipeError, match=said) as caught:
        load_inventory(file)

    assert str(caught.value).startswith(str(file))


def test_a_benchmark_program_is_found_from_the_lists_folder(tmp_path: Path) -> None:
    file = write(tmp_path / "devices.toml", BOARD + "native_benchmark = 'tools/benchmark_model'")

    assert load_inventory(file)["pi5"].native_benchmark == tmp_path / "tools" / "benchmark_model"


def test_the_template_of_the_docs_is_valid_and_names_every_key(tmp_path: Path) -> None:
    page = (DOCS / "devices.md").read_text(encoding="utf-8")
    (template,) = [block for block in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "[devices.pi5]" in block]

    devices = load_inventory(write(tmp_path / "devices.toml", template))

    assert {device.address.partition(":")[0] for device in devices.values()} == {"ssh", "adb", "labgrid"}
    for key in set(Device.model_fields) - {"name"}:
        assert f"\n{key} = " in template, key
