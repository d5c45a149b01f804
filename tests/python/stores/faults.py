"""A proxy before an HTTP store that breaks some of the requests: refusals, resets, stalls and slow bodies."""

import collections
import http.client
import random
import socket
import struct
import threading
import time
import urllib.parse

from .serving import Handler, Serving

# Headers that hold for one connection only.
OF_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"}
OF_BODIES = {"reset", "stall", "slow"}
# A reset in the place of an orderly end of a connection.
RESET = struct.pack("ii", 1, 0)


class Faults:
    """Passes requests on to `store`. A share of them meets a fault; the seed decides which.

    - `busy`: answered 503; `throttled`: answered 429; `silent`: no answer at all;
    - of answers with a body, `reset`: the connection breaks after half of it; `stall`: half of it, then nothing;
      `slow`: in 8 pieces, `pause` seconds apart.
    """

    def __init__(self, store, seed=1, pause=0.3):
        self.target = urllib.parse.urlsplit(store.endpoint).netloc
        self.server = Serving(Broken, self)
        self.endpoint = store.endpoint.replace(f"http://{self.target}", self.server.endpoint)
        self.pause = pause
        self.random = random.Random(seed)
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.heal()

    def heal(self):
        """Breaks nothing from now on, and counts from zero."""
        self.break_with({})

    def break_with(self, shares, at_most=None, concerns=lambda path: True):
        """Breaks these shares of the requests whose path is concerned, and at most so many."""
        with self.lock:
            self.shares, self.left, self.concerns = shares, at_most, concerns
            self.counts = collections.Counter()

    def draw(self, method, path):
        """The fault of the next request, or None."""
        with self.lock:
            self.counts["requests"] += 1
            drawn = self.random.random()
            if self.left == 0 or not self.concerns(path):
                return None
            for fault, share in self.shares.items():
                if drawn < share and (method == "GET" or fault not in OF_BODIES):
                    self.counts[fault] += 1
                    self.left = self.left and self.left - 1
                    return fault
                drawn -= share
            return None

    def stop(self):
        self.ended.set()
        self.server.stop()


class Broken(Handler):
    def pass_on(self):
        fault = self.owner.draw(self.command, self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if fault == "busy":
            return self.reply(503, b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>")
        if fault == "throttled":
            return self.reply(429)
        if fault == "silent":
            return self.hang()
        status, headers, body = self.ask(content)
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in OF_CONNECTION:
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", len(body)) if self.command == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.give(body, fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def ask(self, content):
        """The store's answer."""
        connection = http.client.HTTPConnection(self.owner.target, timeout=60)
        try:
            connection.request(self.command, self.path, content or None, dict(self.headers))
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def give(self, body, fault):
        """Sends a body as the fault says."""
        half = len(body) // 2
        if fault == "reset":
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            self.close_connection = True
            self.connection.close()
        elif fault == "stall":
            self.wfile.write(body[:half])
            self.wfile.flush()
            self.hang()
        elif fault == "slow":
            for piece in range(8):
                time.sleep(self.owner.pause if piece else 0)
                self.wfile.write(body[len(body) * piece // 8 : len(body) * (piece + 1) // 8])
        else:
            self.wfile.write(body)

    def hang(self):
        """Sends nothing more until the tests end."""
        self.close_connection = True
        self.owner.ended.wait(300)
