"""edgepack sends nothing anywhere: NNCF and OpenVINO report their use to their makers unless told not to before they are imported."""

import os
import sys


def switch_off_telemetry() -> None:
    """Call before the first import of NNCF or OpenVINO in a process. (NNCF imports OpenVINO.)

    NNCF has a switch of its own (nncf/telemetry/wrapper.py, 3.4). OpenVINO has none but a file in the user's home or CI=true, and sends an event
    on import already; it does without the package that sends when that can't be imported (openvino/tools/ovc/telemetry_utils.py, 2026.4).
    """
    os.environ.setdefault("NNCF_CI", "1")
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: importing it is an ImportError
