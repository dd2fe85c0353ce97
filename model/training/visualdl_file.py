"""VisualDL records in one file that a resumed run continues."""

import io
import os
import struct
import time
from pathlib import Path
from typing import Any


class VisualDLFile:
    """VisualDL records in one file that a resumed run continues.

    VisualDL's own LogWriter begins a file for every start, and its page shows only the newest of a folder; so a resumed
    run would lose its past. The format is simple: each record is its length (uint64) and a serialised `Record`.
    """

    NAME = "vdlrecords.0000000000.log"

    def __init__(self, folder: str | os.PathLike, step: int = 0) -> None:
        """Open or create the file; records later than `step`, and one that was cut short, are dropped.

        Raises:
            ImportError: VisualDL is not installed or does not work here.
        """
        from visualdl.proto.record_pb2 import Record

        self._record = Record
        self._file = open(Path(folder, self.NAME), "a+b")
        end = self._end_of(step) if step else 0
        self._file.truncate(end)
        if end == 0:
            self._add(0, "meta_data_tag", meta_data=Record.MetaData(display_name=""))

    def _end_of(self, step: int) -> int:
        from google.protobuf.message import DecodeError

        size, end = self._file.tell(), self._file.seek(0)
        while len(head := self._file.read(8)) == 8:
            (length,) = struct.unpack("<Q", head)
            if end + 8 + length > size:
                break
            try:
                record = self._record.FromString(self._file.read(length))
            except DecodeError:
                break
            if any(value.id > step for value in record.values):
                break
            end += 8 + length
        return end

    def _add(self, step: int, tag: str, **content: Any) -> None:
        value = self._record.Value(id=step, tag=tag, timestamp=round(time.time() * 1000), **content)
        data = self._record(values=[value]).SerializeToString()
        self._file.write(struct.pack("<Q", len(data)) + data)
        self._file.flush()  # to the operating system, where the page can see it

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point of a curve."""
        self._add(step, tag, value=float(value))

    def picture(self, tag: str, image: Any, step: int) -> None:
        """Add a PIL image, as JPEG: the page loads whole files, and a run makes a thousand."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=90)
        self._add(step, tag, image=self._record.Image(encoded_image_string=buffer.getvalue()))

    def close(self) -> None:
        """Close the file."""
        self._file.close()
