"""Beam's worker pool on one address of the machine, as if in a pod of its own.

    python pool.py HOST --service_port=PORT

Beam's own command listens on every address, and each TaskManager needs a pool to itself:
TaskManagers count their workers from 1, and a pool tells workers apart by these numbers.
"""

from __future__ import annotations

import sys
from typing import Any

import grpc
from apache_beam.runners.worker.worker_pool_main import main


def listen_on(host: str) -> None:
    """Makes gRPC's servers listen on this address only."""
    make = grpc.server

    def server(*arguments: Any, **options: Any) -> Any:
        made = make(*arguments, **options)
        listen = made.add_insecure_port
        made.add_insecure_port = lambda address: listen(address.replace("[::]", host))
        return made

    grpc.server = server


if __name__ == "__main__":
    listen_on(sys.argv.pop(1))
    main()
