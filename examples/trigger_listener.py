"""A receiver of the datagrams that `trackd-client trigger` sends; your stimulus or logger in its place."""

from __future__ import annotations

import argparse
import socket
import sys

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--port", type=int, default=9000, help="as in the rules file")
options.add_argument("--count", type=int, default=4, help="end after so many datagrams")
options.add_argument("--timeout-s", type=float, default=60.0, help="how long to wait for each")


def main(given: argparse.Namespace) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", given.port))
        listener.settimeout(given.timeout_s)
        print(f"listening on port {listener.getsockname()[1]}", flush=True)
        for _ in range(given.count):
            print(listener.recv(65536).decode(), flush=True)


if __name__ == "__main__":
    try:
        main(options.parse_args())
    except OSError as error:  # also of a timeout
        sys.exit(f"{options.prog}: {error}")
