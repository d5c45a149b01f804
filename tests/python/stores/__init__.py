"""Stores that tests put files into: servers of others, and HTTP servers of this process."""

import json
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet


@dataclass
class Secret:
    """A setting that the configuration reads from a file."""

    value: str


class Store:
    """A bucket, container or host. `url` is the location of its root, `settings` are those of its section."""

    url = ""
    settings = {}
    # Whether the store can tell which files there are.
    lists = True

    def put(self, path, content):
        """Makes or replaces a file."""
        raise NotImplementedError

    def stop(self):
        pass

    def put_table(self, path, table, write=pyarrow.parquet.write_table):
        sink = pa.BufferOutputStream()
        write(table, sink)
        self.put(path, sink.getvalue().to_pybytes())

    def section(self, folder, location=None, **changes):
        """The section of the configuration, with secrets in files of `folder`. None leaves a setting out."""
        lines = [f'[storage."{location or self.url}"]']
        for name, value in {"retry_timeout": 10, **self.settings, **changes}.items():
            if isinstance(value, Secret):
                path = folder / f"{len(list(folder.iterdir()))}-{name}"
                path.write_text(value.value + "\n")
                lines.append(f"{name} = {{ file = {json.dumps(str(path))} }}")
            elif value is not None:
                # JSON writes texts, numbers and flags as TOML does.
                lines.append(f"{name} = {json.dumps(value)}")
        return "\n".join(lines) + "\n"

    def config(self, folder, location=None, **changes):
        """A configuration file with the one section."""
        return config(folder, self.section(folder, location, **changes))


def config(folder, *sections):
    """A configuration file."""
    path = folder / f"storage-{len(list(folder.iterdir()))}.toml"
    path.write_text("\n".join(sections))
    return path
