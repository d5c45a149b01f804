"""Azure's blob storage, by a server of others (Azurite)."""

import re

from azure.storage.blob import ContainerClient

from . import Secret, Store
from .installed import Server, installed

# Azurite's own account and key, the same everywhere.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
LISTENS = re.compile(r"successfully listens on (http://\S+)")


class Azure(Store):
    def __init__(self, container="box"):
        self.url = f"az://{container}"
        program = installed("azurite", "node_modules", "azurite", "dist", "src", "blob", "main.js")
        flags = ["--blobPort", "0", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
        self.server = Server(["node", program, *flags], LISTENS)
        self.endpoint = f"{self.server.ready[1]}/{ACCOUNT}"
        self.container = ContainerClient(self.endpoint, container, credential=KEY)
        self.container.create_container()
        self.settings = {
            "endpoint": self.endpoint,
            "allow_http": True,
            "account": ACCOUNT,
            "account_key": Secret(KEY),
        }

    def put(self, path, content):
        self.container.upload_blob(path, content, overwrite=True)

    def stop(self):
        self.container.close()
        self.server.stop()
