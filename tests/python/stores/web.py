"""An HTTP server with ranges. `kind` says what it tells about its files."""

import time
import urllib.parse

from . import Store
from .serving import Handler, Serving, part

MODIFIED = "Sat, 28 Nov 2026 10:00:00 GMT"


class Web(Store):
    lists = False

    def __init__(self, kind="strong"):
        self.kind = kind
        self.files = {}
        self.server = Serving(Answers, self)
        self.endpoint = self.url = self.server.endpoint

    def put(self, path, content):
        self.files[f"/{path}"] = content

    def stop(self):
        self.server.stop()


class Answers(Handler):
    def do_GET(self):
        content = self.owner.files.get(urllib.parse.unquote(self.path))
        if content is None:
            return self.reply(404)
        if self.owner.kind == "weak" and "If-Match" in self.headers:
            # A weak tag matches no condition.
            return self.reply(412)
        status, content, headers = part(content, self.headers["Range"])
        if self.owner.kind != "bare":
            tag = f'"{hash(self.owner.files[self.path])}"'
            headers |= {"ETag": f"W/{tag}" if self.owner.kind == "weak" else tag, "Last-Modified": MODIFIED}
        self.reply(status, content, headers)

    do_HEAD = do_GET

    def write(self, content):
        pieces = 8 if self.owner.kind == "slow" else 1
        for piece in range(pieces):
            if piece:
                time.sleep(0.4)
            self.wfile.write(content[len(content) * piece // pieces : len(content) * (piece + 1) // pieces])
