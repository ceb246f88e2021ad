from __future__ import annotations

from pathlib import Path

from edgepack.bench.on_device import protocol_on
from edgepack.suites import BenchProtocol


def test_a_device_of_the_list_is_bound_to_its_cores_and_waited_for(tmp_path: Path) -> None:
    inventory = tmp_path / "devices.toml"
    inventory.write_text('[devices.pi5]\naddress = "ssh://board"\ncores = [2, 3]\ncool_below_c = 50\n')

    found = protocol_on("pi5", BenchProtocol(), inventory=inventory)
    asked = protocol_on("pi5", BenchProtocol(cores=(1,), cool_below_c=40.0), inventory=inventory)

    assert (found.cores, found.cool_below_c) == ((2, 3), 50.0)
    assert (asked.cores, asked.cool_below_c) == ((1,), 40.0)
    assert protocol_on("ssh://board", BenchProtocol(), inventory=inventory) == BenchProtocol()
