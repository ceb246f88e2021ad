from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.core.errors import RecipeError, UsageError
from edgepack.devices.address import open_device


def listed(folder: Path, text: str) -> Path:
    (folder / "devices.toml").write_text(text)
    return folder / "devices.toml"


def test_local_is_this_machine() -> None:
    with open_device("local") as device:
        assert device.describe().name == "this machine"


def test_a_name_of_the_inventory_is_a_device(tmp_path: Path) -> None:
    file = listed(tmp_path, '[devices.desk]\naddress = "local"\n[devices.local]\naddress = "local"\n')

    with open_device("desk", inventory=file) as desk, open_device("local", inventory=file) as own:
        assert (desk.describe().name, own.describe().name) == ("desk", "local")


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"devices\.toml has no such name \(did you mean 'kitchen'\?\)"):
        open_device("kichen", inventory=listed(tmp_path, '[devices.kitchen]\naddress = "local"\n'))


def test_a_name_without_an_inventory_says_where_names_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("EDGEPACK_DEVICES", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    with pytest.raises(UsageError, match=r"--device pi5: there is no devices\.toml .*ssh://"):
        open_device("pi5")


def test_an_unknown_way_to_a_device_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"shs://board: no such way to a device \(did you mean 'ssh'\?\)"):
        open_device("shs://board")


@pytest.mark.parametrize("place", ["", "-oProxyCommand=x", "user@", "host:port", "a b", "host/path", "host:99999999"])
def test_what_is_no_ssh_address_is_refused(place: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        open_device(f"ssh://{place}")


def test_a_missing_inventory_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nothing\.toml"):
        open_device("pi5", inventory=tmp_path / "nothing.toml")
