"""HDFS, by a NameNode and a DataNode of others (Hadoop's mini cluster)."""

import contextlib
import pathlib
import re
import signal
import tempfile

from . import Store
from .installed import Server, installed

PROGRAM = pathlib.Path(__file__).parents[1] / "servers" / "hdfs" / "HdfsServer.java"


class Hdfs(Store):
    def __init__(self, directory="lake"):
        self.folder = tempfile.TemporaryDirectory()
        jars = installed("hdfs", "jars")
        command = ["java", "-Xmx512m", "-cp", f"{jars}/*", str(PROGRAM), self.folder.name]
        self.server = Server(command, re.compile(r"^ready (\d+)$"))
        self.host = f"hdfs://127.0.0.1:{self.server.ready[1]}"
        self.url = f"{self.host}/{directory}"

    def put(self, path, content):
        local = pathlib.Path(self.folder.name, "upload")
        local.write_bytes(content)
        answer = self.server.ask(f"{local}\t{self.url}/{path}")
        assert answer == "put", answer

    @contextlib.contextmanager
    def stopped(self):
        """Both nodes keep their connections and send nothing."""
        self.server.child.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.server.child.send_signal(signal.SIGCONT)

    def stop(self):
        self.server.stop()
        self.folder.cleanup()
