"""Numbers of a wire file: little endian base 128, seven bits a byte, the shortest form only; signed ones as zigzag."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.core.errors import BundleError

UNSIGNED_MAX = (1 << 63) - 1


def unsigned(value: int) -> bytes:
    """A number ≥ 0."""
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def zigzag(value: int) -> bytes:
    """A number of either sign: 0, −1, 1, −2 … are 0, 1, 2, 3 …"""
    return unsigned(value << 1 if value >= 0 else (-value << 1) - 1)


@dataclass(slots=True)
class Cursor:
    """Reads from `position` on. Every reading raises BundleError where the data end before it does."""

    data: bytes
    position: int = 0

    def byte(self) -> int:
        return self.take(1)[0]

    def take(self, size_bytes: int) -> bytes:
        end = self.position + size_bytes
        if end > len(self.data):
            raise BundleError("cut off: it ends inside a number or a name")
        taken = bytes(self.data[self.position : end])
        self.position = end
        return taken

    def sized(self, size_bytes_max: int) -> bytes:
        """Bytes behind their number. Raises BundleError over `size_bytes_max`."""
        size_bytes = self.unsigned()
        if size_bytes > size_bytes_max:
            raise BundleError(f"{size_bytes} bytes where at most {size_bytes_max} are allowed")
        return self.take(size_bytes)

    def unsigned(self) -> int:
        value = 0
        for shift in range(0, 63, 7):
            byte = self.byte()
            value |= (byte & 127) << shift
            if byte < 128:
                if byte == 0 and shift:
                    raise BundleError("a number is longer than it need be")
                return value
        raise BundleError("a number is too large")

    def positive(self) -> int:
        if (value := self.unsigned()) == 0:
            raise BundleError("a size is 0 where there must be something")
        return value

    def zigzag(self) -> int:
        value = self.unsigned()
        return -((value + 1) >> 1) if value & 1 else value >> 1
