"""HTTP servers of this process."""

import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Keeps connections open, and writes no log."""

    protocol_version = "HTTP/1.1"
    # The head and the body of an answer are sent apart. The second must not wait until the first is acknowledged.
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, status, content=b"", headers=None):
        """Answers with all of the content, or without it if the request is HEAD."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.write(content)

    def write(self, content):
        self.wfile.write(content)


class Listener(http.server.ThreadingHTTPServer):
    # Many connections begin at once. The kernel lets one that finds no place wait for a second.
    request_queue_size = 128

    def handle_error(self, *_):
        """Clients may break off."""


class Serving:
    """A running server. Handlers see its owner as `self.owner`."""

    def __init__(self, handler, owner):
        own = type("Own", (handler,), {"owner": owner})
        self.server = Listener(("127.0.0.1", 0), own)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def part(content, wanted):
    """The status, the bytes and the headers of an answer to a Range header, which may be None."""
    if not wanted:
        return 200, content, {}
    first, last = wanted.removeprefix("bytes=").split("-")
    size = len(content)
    # Without a first byte the number counts from the end.
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= size:
        return 416, b"", {"Content-Range": f"bytes */{size}"}
    return 206, content[start:end], {"Content-Range": f"bytes {start}-{end - 1}/{size}"}
