"""Google Cloud Storage, by a server of this process with the requests of its XML interface that readers send."""

import base64
import email.utils
import hashlib
import json
import time
import urllib.parse
from xml.sax.saxutils import escape

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from . import Secret, Store
from .serving import Handler, Serving, part

# Names in a page of a listing. It is small, so that a listing has several pages.
PAGE = 3
SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class ServiceAccount:
    """A service account with a key."""

    def __init__(self, name="reader"):
        self.email = f"{name}@project.iam.gserviceaccount.com"
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        self.private_key = self.key.private_bytes(*pem).decode()

    def json(self, **more):
        """The file that a person downloads."""
        key = {"private_key": self.private_key, "private_key_id": "key-1", "client_email": self.email}
        return json.dumps({"type": "service_account", **key, "token_uri": "https://oauth2.googleapis.com/token", **more})

    def has_signed(self, token):
        """Whether the account has signed a token that holds now."""
        try:
            head, claims, signature = token.split(".")
            signed = padding.PKCS1v15(), hashes.SHA256()
            self.key.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), *signed)
        except (ValueError, InvalidSignature):
            return False
        claims = json.loads(decoded(claims))
        return claims["iss"] == self.email and claims["scope"] == SCOPE and claims["iat"] <= time.time() < claims["exp"]


def decoded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Gcs(Store):
    """A bucket that the account reads, and a public bucket that everybody reads."""

    def __init__(self, bucket="bucket", public="public"):
        self.url, self.public_url = f"gs://{bucket}", f"gs://{public}"
        self.public = public
        self.buckets = {bucket: {}, public: {}}
        self.account = ServiceAccount()
        self.server = Serving(Answers, self)
        self.endpoint = self.server.endpoint
        self.settings = {
            "endpoint": self.endpoint,
            "allow_http": True,
            "service_account_key": Secret(self.account.json()),
        }

    def put(self, path, content, bucket="bucket"):
        self.buckets[bucket][path] = Object(content)

    def stop(self):
        self.server.stop()


class Object:
    def __init__(self, content):
        self.content = content
        self.tag = f'"{hashlib.md5(content).hexdigest()}"'
        self.time = time.time()
        self.generation = time.time_ns() // 1000


class Answers(Handler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        bucket, _, name = urllib.parse.unquote(url.path).removeprefix("/").partition("/")
        query = dict(urllib.parse.parse_qsl(url.query))
        if bucket not in self.owner.buckets:
            return self.fail(404, "NoSuchBucket", "The specified bucket does not exist.")
        if not self.is_allowed(bucket):
            return
        if not name:
            return self.list(bucket, query)
        found = self.owner.buckets[bucket].get(name)
        if found is None or query.get("generation", str(found.generation)) != str(found.generation):
            return self.fail(404, "NoSuchKey", "The specified key does not exist.")
        if self.headers.get("If-Match", found.tag) != found.tag:
            return self.fail(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold.")
        status, content, headers = part(found.content, self.headers["Range"])
        modified = email.utils.formatdate(found.time, usegmt=True)
        about = {"ETag": found.tag, "Last-Modified": modified, "x-goog-generation": str(found.generation)}
        self.reply(status, content, {**headers, **about})

    do_HEAD = do_GET

    def is_allowed(self, bucket):
        """Whether the caller may read the bucket. Refuses the request if not."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer").strip()
        if token and not self.owner.account.has_signed(token):
            self.fail(401, "AuthenticationRequired", "Authentication required.")
        elif not token and bucket != self.owner.public:
            self.fail(403, "AccessDenied", "Access denied.")
        else:
            return True
        return False

    def fail(self, status, code, message):
        document = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
        self.reply(status, document.encode(), {"Content-Type": "application/xml; charset=UTF-8"})

    def list(self, bucket, query):
        """Answers with a page of names. The token of the next page is the last name of this one."""
        assert query["list-type"] == "2", query
        objects, prefix, delimiter = self.owner.buckets[bucket], query.get("prefix", ""), query.get("delimiter")
        after = max(query.get("continuation-token", ""), query.get("start-after", ""))
        entries = sorted({level(name, prefix, delimiter) for name in objects if name.startswith(prefix)})
        entries = [entry for entry in entries if entry > after]
        page = entries[: min(PAGE, int(query.get("max-keys", PAGE)))]
        body = "".join(entry_xml(name, objects.get(name)) for name in page)
        if len(page) < len(entries):
            body += f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        head = '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://doc.s3.amazonaws.com/2006-03-01">'
        self.reply(200, f"{head}{body}</ListBucketResult>".encode(), {"Content-Type": "application/xml; charset=UTF-8"})


def level(name, prefix, delimiter):
    """The name, or its part up to the first delimiter after the prefix."""
    end = name.find(delimiter, len(prefix)) if delimiter else -1
    return name if end < 0 else name[: end + 1]


def entry_xml(name, found):
    if found is None:
        return f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
    modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(found.time))
    about = f"<ETag>{escape(found.tag)}</ETag><Size>{len(found.content)}</Size><LastModified>{modified}</LastModified>"
    return f"<Contents><Key>{escape(name)}</Key>{about}</Contents>"
