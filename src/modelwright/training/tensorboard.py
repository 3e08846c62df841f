"""A run's metrics as TensorBoard reads them, for those who watch their runs there.

The package `tensorboard` is loaded when a file is made and not before; TensorFlow is never loaded,
even where it is installed, which is why the records are written here and not by TensorBoard's
EventFileWriter.
"""

import html
import math
import re
import time
from pathlib import Path
from typing import Any

from modelwright.training.metrics import event_details, is_taken

# Which tag each number of a record has. TensorBoard groups them by what stands before the slash.
scalar_tags = {
    "loss": "loss/training",
    "validation_loss": "loss/validation",
    "averaged_validation_loss": "loss/validation_averaged",
    "validation_perplexity": "perplexity/validation",
    "validation_bits_per_byte": "bits_per_byte/validation",
    "forecast_loss": "forecast/loss_at_the_end",
    "forecast_low": "forecast/low",
    "forecast_high": "forecast/high",
    "learning_rate": "learning_rate",
    "gradient_norm": "gradient_norm",
    "loss_scale": "loss_scale",
    "tokens_per_second": "speed/tokens_per_second",
    "data_seconds": "speed/data_seconds",
    "mfu": "speed/mfu",
    "memory_bytes": "memory/gib",
    "n_tokens": "tokens",
}
bytes_per_gib = 2**30


class EventFile:
    """One file of events in a folder, from `first_step` to wherever the run gets."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        """Make the folder and the file in it.

        Args:
            first_step: the first step that will be written. TensorBoard drops what older files in
                the folder say about it and later steps, because a resumed run takes them again.

        Raises:
            ValueError: if TensorBoard is not installed.
        """
        try:
            from tensorboard.compat.proto import (
                event_pb2,
                summary_pb2,
                tensor_pb2,
                tensor_shape_pb2,
                types_pb2,
            )
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError as error:
            raise ValueError(
                f"training.tensorboard is true, but TensorBoard cannot be loaded ({error}); "
                "`pip install tensorboard`, or set training.tensorboard = false"
            ) from error
        # Any, because what these modules hold is made when they are loaded.
        modules: list[Any] = [event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2]
        self._events, self._summaries, self._tensors, self._shapes, self._types = modules
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / _next_name(folder)
        self._records = RecordWriter(self.path.open("xb"))
        self._add(self._events.Event(file_version="brain.Event:2"))
        start = self._events.SessionLog(status=self._events.SessionLog.START)
        self._add(self._events.Event(session_log=start, step=first_step))

    def write(self, record: dict[str, Any]) -> None:
        """Add a step's record; what has no tag is left out."""
        summary = self._summaries.Summary()
        for name, tag in scalar_tags.items() if is_taken(record) else ():
            value = record.get(name)
            if value is not None:
                scale = bytes_per_gib if name == "memory_bytes" else 1
                summary.value.add(tag=tag, simple_value=value / scale)
        for name, found in record.get("tasks", {}).items():
            group = "tasks_partial" if found["partial"] else "tasks"
            for metric, score in found["scores"].items():
                if score["value"] is not None:
                    summary.value.add(tag=f"{group}/{name}_{metric}", simple_value=score["value"])
        if record.get("samples"):
            self._add_texts(summary, "samples", record["samples"])
        if "event" in record:
            details = event_details(record)
            told = f"{record['event']}: {details}" if details else record["event"]
            self._add_texts(summary, "events", [told])
        if summary.value:
            self._add(self._events.Event(summary=summary, step=record["step"]))

    def close(self) -> None:
        self._records.close()

    def _add_texts(self, summary: Any, tag: str, texts: list[str]) -> None:
        data = self._summaries.SummaryMetadata.PluginData(plugin_name="text")
        shape = self._shapes.TensorShapeProto
        tensor = self._tensors.TensorProto(
            dtype=self._types.DT_STRING,
            string_val=[as_markdown(text).encode() for text in texts],
            tensor_shape=shape(dim=[shape.Dim(size=len(texts))]),
        )
        metadata = self._summaries.SummaryMetadata(
            plugin_data=data, data_class=self._summaries.DATA_CLASS_TENSOR
        )
        summary.value.add(tag=tag, metadata=metadata, tensor=tensor)

    def _add(self, event: Any) -> None:
        """Write an event through to the disk's cache, so that a crash leaves only whole ones."""
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
        self._records.flush()


def as_markdown(text: str) -> str:
    """A text that looks after Markdown as it looked before, line breaks and all."""
    lines = [
        "&nbsp;" * (len(line) - len(line.lstrip(" "))) + _escaped(line.lstrip(" "))
        for line in text.split("\n")
    ]
    return "  \n".join(lines)  # two spaces keep a line break


def _escaped(line: str) -> str:
    """Keep signs from being taken for markup, and beginnings for a list or a headline."""
    kept = re.sub(
        r"[\\`*_\[\]|~]", lambda sign: f"&#{ord(sign[0])};", html.escape(line, quote=False)
    )
    return re.sub(
        r"^([-+=]|#+|\d+\.)", lambda start: "".join(f"&#{ord(sign)};" for sign in start[0]), kept
    )


def _next_name(folder: Path) -> str:
    """A name that TensorBoard takes for an event file and reads after those that are there."""
    taken = [re.match(r"events\.out\.tfevents\.(\d+)\.", path.name) for path in folder.iterdir()]
    newest = max((int(match[1]) for match in taken if match), default=0)
    return f"events.out.tfevents.{max(math.floor(time.time()), newest + 1):010}.modelwright"
