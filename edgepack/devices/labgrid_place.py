"""Holds a place of a labgrid coordinator for as long as its standard input is open. devices/labgrid.py starts it as a program, with the place's name.

It is a process of its own because labgrid is not thread-safe (its event loop and its resource managers are global), and because a place's lock
never expires: when edgepack is killed, the input ends, and the place is released all the same. Prints one JSON object when it has the place, or why not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
from typing import Any

_CONNECT_S, _ACQUIRE_S, _RELEASE_S = 20.0, 30.0, 30.0
_DEFAULT_COORDINATOR = "127.0.0.1:20408"  # labgrid's own


def main() -> int:
    """Acquire, tell, wait, release."""
    place = sys.argv[1]
    logging.disable(logging.CRITICAL)  # what matters is told in our own words
    from labgrid.remote.client import ClientSession, Error
    from labgrid.util.proxy import proxymanager

    coordinator = os.environ.get("LG_COORDINATOR", _DEFAULT_COORDINATOR)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    session = ClientSession(
        proxymanager.get_grpc_address(coordinator, default_port=20408),
        loop,
        args=argparse.Namespace(place=place, allow_unmatched=False, kick=False),
    )
    try:
        loop.run_until_complete(asyncio.wait_for(session.start(), _CONNECT_S))
    except (Error, TimeoutError):
        return _tell(error="coordinator", message=f"no labgrid coordinator answers at {coordinator}")
    try:
        loop.run_until_complete(asyncio.wait_for(_quietly(session.acquire), _ACQUIRE_S))
    except (Error, TimeoutError) as exc:
        return _tell(error="place", message=str(exc).removeprefix("Error: ") or f"not acquired within {_ACQUIRE_S:g} s")
    try:
        _tell(place=session.get_place(place).name, services=_services(session, place))
        loop.run_until_complete(loop.run_in_executor(None, sys.stdin.read))
    finally:
        _release(loop, session, place)
    return 0


def _services(session: Any, place: str) -> list[dict[str, Any]]:
    """How to reach the place's device by SSH: every resource NetworkService, with the host to go through where one is needed."""
    found = []
    for (name, cls), resource in session.get_target_resources(session.get_place(place)).items():
        if cls == "NetworkService":
            extra = resource.extra or {}
            proxy = extra.get("proxy") if extra.get("proxy_required") else None
            wanted = {key: resource.args.get(key) for key in ("address", "port", "username")}
            found.append({"name": name, "proxy": proxy, "has_password": bool(resource.args.get("password")), **wanted})
    return found


def _release(loop: asyncio.AbstractEventLoop, session: Any, place: str) -> None:
    try:
        loop.run_until_complete(asyncio.wait_for(_quietly(session.release), _RELEASE_S))
    except Exception as exc:  # noqa: BLE001  # whatever happened: someone must know that the lock stays
        print(  # noqa: T201
            f"edgepack: warning: labgrid://{place}: the place could not be released ({exc}); "
            f"its lock never expires: labgrid-client -p {place} release --kick",
            file=sys.stderr,
        )


async def _quietly(step: Any) -> None:
    """labgrid prints what it did to standard output, which is ours."""
    stdout, sys.stdout = sys.stdout, sys.stderr
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123
            sys.stdout = nowhere
            await step()
    finally:
        sys.stdout = stdout


def _tell(**facts: Any) -> int:
    print(json.dumps(facts), flush=True)  # noqa: T201
    return 1 if "error" in facts else 0


if __name__ == "__main__":
    sys.exit(main())
