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
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.NAME
        self._file = open(path, "r+b" if path.exists() else "w+b")
        end = self._end_of(step) if step else 0
        self._file.truncate(end)
        self._file.seek(end)
        if end == 0:
            meta = Record.Value(id=0, tag="meta_data_tag", timestamp=_now(), meta_data=Record.MetaData(display_name=""))
            self._add(meta)

    def _end_of(self, step: int) -> int:
        from google.protobuf.message import DecodeError

        size, end = os.fstat(self._file.fileno()).st_size, 0
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

    def _add(self, value: Any) -> None:
        data = self._record(values=[value]).SerializeToString()
        self._file.write(struct.pack("<Q", len(data)) + data)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Add a point of a curve."""
        self._add(self._record.Value(id=step, tag=tag, timestamp=_now(), value=float(value)))

    def picture(self, tag: str, image: Any, step: int) -> None:
        """Add a PIL image, as JPEG: the page loads whole files, and a run makes a thousand."""
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=90)
        content = self._record.Image(encoded_image_string=buffer.getvalue())
        self._add(self._record.Value(id=step, tag=tag, timestamp=_now(), image=content))

    def flush(self) -> None:
        """Hand everything to the operating system, where the page can see it."""
        self._file.flush()

    def close(self) -> None:
        """Flush and close; harmless when repeated."""
        self._file.close()


def _now() -> int:
    return round(time.time() * 1000)
