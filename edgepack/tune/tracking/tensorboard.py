"""Trials as TensorBoard's event files: a curve over the trials' numbers for each result, and what each trial is made of as text.

The files are written record by record: TensorBoard's own writer imports TensorFlow wherever that is installed, which takes seconds.
"""

from __future__ import annotations

import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.types_pb2 import DT_STRING
from tensorboard.summary.writer.record_writer import RecordWriter

from edgepack.tune.front import Row
from edgepack.tune.tracking.protocol import Search, metrics_of


class TensorBoard:
    """Event files in a folder beside the study; those of an interrupted search are written anew when it goes on."""

    def __init__(self, search: Search) -> None:
        self._folder = search.folder / "tensorboard"
        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._file = (self._folder / f"events.out.tfevents.{int(time.time())}.edgepack").open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def where(self) -> str:
        """The command that shows it."""
        return f"tensorboard --logdir {self._folder}"

    def result(self, row: Row) -> None:
        """A point on each curve; trials that were trained for a part of the time have curves of their own."""
        trained = f"trained {row.share:.0%}"
        values = [Summary.Value(tag=f"{trained}/{name}", simple_value=value) for name, value in metrics_of(row).items()]
        values.append(
            Summary.Value(
                tag=f"{trained}/steps",
                metadata=SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text")),
                tensor=TensorProto(dtype=DT_STRING, string_val=[row.words.encode()]),
            )
        )
        self._write(Event(wall_time=time.time(), step=row.trial.number, summary=Summary(value=values)))

    def close(self) -> None:
        """The file is whole."""
        self._records.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._records.flush()
