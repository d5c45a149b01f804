"""S3, by a server of others (moto) in this process."""

import boto3
from moto.server import ThreadedMotoServer

from . import Secret, Store

KEY_ID, SECRET = "HWACHATESTKEYID", "hush-hush-this-is-the-secret"


class S3(Store):
    def __init__(self, bucket="lake"):
        self.bucket = bucket
        self.url = f"s3://{bucket}"
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, port = self.server.get_host_and_port()
        self.endpoint = f"http://{host}:{port}"
        keys = {"aws_access_key_id": KEY_ID, "aws_secret_access_key": SECRET}
        self.client = boto3.client("s3", endpoint_url=self.endpoint, region_name="us-east-1", **keys)
        self.client.create_bucket(Bucket=bucket)
        self.settings = {
            "endpoint": self.endpoint,
            "allow_http": True,
            "access_key_id": Secret(KEY_ID),
            "secret_access_key": Secret(SECRET),
        }

    def put(self, path, content):
        self.client.put_object(Bucket=self.bucket, Key=path, Body=content)

    def stop(self):
        self.server.stop()
