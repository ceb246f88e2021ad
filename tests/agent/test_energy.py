from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgepack.agent.bench.energy import Meter, find_sensor

Put = Callable[[str, str], Path]


@pytest.fixture
def put(tmp_path: Path) -> Put:
    def write(name: str, content: str) -> Path:
        file = tmp_path / "sys" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
        return file

    return write


def measured(root: Path, *, seconds: float = 0.3, during: Callable[[], object] | None = None) -> dict[str, float]:
    sensor = find_sensor(root)
    assert sensor is not None
    meter = Meter(sensor, rate_hz=50)
    meter.begin()
    time.sleep(seconds)
    if during is not None:
        during()
        time.sleep(seconds)
    found = meter.end()
    assert found is not None
    return found


def test_without_a_sensor_there_is_none(tmp_path: Path) -> None:
    assert find_sensor(tmp_path) is None


def test_power_is_integrated_over_the_window(tmp_path: Path, put: Put) -> None:
    put("class/hwmon/hwmon0/name", "ina226\n")
    power = put("class/hwmon/hwmon0/power1_input", "2000000\n")

    found = measured(tmp_path, during=lambda: power.write_text("4000000\n"))

    assert found["sensor"] == "ina226 power1"
    assert found["joules"] == pytest.approx(3 * found["window_s"], rel=0.15)
    assert 20 < found["rate_hz"] < 60


def test_the_rail_of_the_whole_board_comes_before_others(tmp_path: Path, put: Put) -> None:
    for number, label in enumerate(("VDD_CPU", "VDD_IN"), start=1):
        put("class/hwmon/hwmon1/name", "ina3221\n")
        put(f"class/hwmon/hwmon1/in{number}_label", label + "\n")
        put(f"class/hwmon/hwmon1/in{number}_input", "5000\n")
        put(f"class/hwmon/hwmon1/curr{number}_input", f"{number}000\n")

    found = measured(tmp_path)

    assert found["sensor"] == "ina3221 VDD_IN"
    assert found["joules"] / found["window_s"] == pytest.approx(10)


def test_android_power_rails_are_added_up(tmp_path: Path, put: Put) -> None:
    text = "t=349894\nCH0(T=349894)[S10M_VDD_TPU], {}\nCH1(T=349894)[VSYS_PWR_MODEM], 29110940\n"
    rails = put("bus/iio/devices/iio:device0/energy_value", text.format(5_578_756))

    found = measured(tmp_path, during=lambda: rails.write_text(text.format(7_578_756)))

    assert found["joules"] == pytest.approx(2)


def test_a_counter_that_begins_again_is_followed(tmp_path: Path, put: Put) -> None:
    put("class/powercap/intel-rapl:0/name", "package-0\n")
    put("class/powercap/intel-rapl:0/max_energy_range_uj", "10000000\n")
    counter = put("class/powercap/intel-rapl:0/energy_uj", "9500000\n")

    found = measured(tmp_path, during=lambda: counter.write_text("500000\n"))

    assert found["sensor"] == "intel-rapl:0 package-0"
    assert found["joules"] == pytest.approx(1)


def test_a_battery_tells_only_while_it_feeds_the_device(tmp_path: Path, put: Put) -> None:
    put("class/power_supply/BAT0/type", "Battery\n")
    status = put("class/power_supply/BAT0/status", "Charging\n")
    put("class/power_supply/BAT0/current_now", "-400000\n")
    put("class/power_supply/BAT0/voltage_now", "5000000\n")
    assert find_sensor(tmp_path) is None

    status.write_text("Discharging\n")
    found = measured(tmp_path)

    assert found["joules"] / found["window_s"] == pytest.approx(2)


def test_a_sensor_that_exists_and_can_not_be_read_is_passed_over(tmp_path: Path, put: Put) -> None:
    put("class/hwmon/hwmon0/power1_input", "\n")
    put("class/hwmon/hwmon1/power1_input", "1000000\n")

    sensor = find_sensor(tmp_path)

    assert sensor is not None
    assert sensor.name == "hwmon1 power1"
