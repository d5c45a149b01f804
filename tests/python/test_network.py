"""Executors compress rows after they have measured that the network between them is slow."""

import re
import socket
import threading

from adbc_driver_flightsql import dbapi

from processes import Process, wait_until

BYTES_A_SECOND = 40_000_000
PIECE = 1 << 16
ROWS = 3_000_000
EXCHANGED = """
explain analyze select count(*), sum(a.n) from wide a join wide b on a.n = b.n and a.text = b.text
"""


class SlowLine:
    """A proxy on loopback. It forwards requests to `target` at once, and answers with at most BYTES_A_SECOND."""

    def __init__(self):
        self.target = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.closed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            host, port = self.target.rsplit(":", 1)
            server = socket.create_connection((host, int(port)))
            threading.Thread(target=self._pass, args=(client, server, 0), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, PIECE / BYTES_A_SECOND), daemon=True).start()

    def _pass(self, source, target, pause):
        try:
            while data := source.recv(PIECE):
                self.closed.wait(pause * len(data) / PIECE)
                target.sendall(data)
        except OSError:
            pass
        finally:
            source.close()
            target.close()

    def close(self):
        self.closed.set()
        self.listener.close()


def received_mebibytes(cursor):
    cursor.execute(EXCHANGED)
    plan = cursor.fetchall()[0][1]
    amounts = re.findall(r"([\d.]+) (MiB|KiB|B) received over the network", plan)
    return sum(float(amount) / {"MiB": 1, "KiB": 1 << 10, "B": 1 << 20}[unit] for amount, unit in amounts)


def test_rows_are_compressed_where_the_network_is_slow(new_cluster):
    cluster = new_cluster(executors=0)
    lines = [SlowLine(), SlowLine()]
    try:
        for line in lines:
            cluster.executor_flags["--advertise"] = line.address
            cluster.start_executor()
            line.target = cluster.executors[-1].address
        with dbapi.connect(cluster.url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(
                "create table wide as select value as n, concat('the same words in every row, and ', value % 10)"
                f" as text from generate_series(1, {ROWS})"
            )
            for setting in ["broadcast_bytes = 0", "row_filters = false", "key_ranges = false"]:
                cursor.execute(f"set hwacha.optimizer.{setting}")
            whole = received_mebibytes(cursor)
            assert whole > 64, "so much is read before the network is measured"
            wait_until(lambda: received_mebibytes(cursor) < whole / 2, 60, "compression")
            cursor.execute("set hwacha.exchange.compression = false")
            assert received_mebibytes(cursor) > whole * 0.9
    finally:
        for line in lines:
            line.close()
