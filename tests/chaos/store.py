"""A store that speaks S3 (moto) and can fail or be slow, until standard input ends. The file that
is named says how it is: well, fails or slow.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

FAILING = 0.7  # of requests, while the store fails
SLOW_S = (0.2, 3.0)


class Unsteady:
    """An application that is as the file says."""

    def __init__(self, application: Callable[..., Iterable[bytes]], state: Path) -> None:
        self.application, self.state = application, state

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        state = self.state.read_text()
        if state == "fails" and random.random() < FAILING:
            if random.random() < 0.5:
                raise ConnectionError("the store is away")
            start("503 Slow Down", [("Content-Length", "0"), ("Connection", "close")])
            return [b""]
        if state == "slow":
            time.sleep(random.uniform(*SLOW_S))
        return self.application(environ, start)


class Quiet(WSGIRequestHandler):
    """Says nothing of requests."""

    def log(self, *_: object) -> None:
        """See WSGIRequestHandler."""


def main(bucket: str, state: str) -> None:
    application = Unsteady(DomainDispatcherApplication(create_backend_app), Path(state))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    boto3.client("s3", endpoint_url=address).create_bucket(Bucket=bucket)
    print(address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
