"""Requests that are meant to hurt a receiver, of every kind; none may be taken in, and none may bring it down."""

import hashlib
import hmac
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import time
from urllib.parse import urlencode

FORM = "application/x-www-form-urlencoded"
LOST = 0
"""Instead of a status: the connection was closed without an answer, as is right where nobody would read one."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A door of `segue serve`, as those who know its path see it."""

    host: str
    port: int
    path: str
    secret: str


def body(number: int, kind: str = "unsubscribe") -> bytes:
    """Give what Mailchimp would post about one person."""
    said = {"type": kind, "fired_at": "2026-02-28 09:30:00", "data[id]": f"{number:x}"}
    return urlencode(said | {"data[email]": f"h{number}@shop.example", "data[list_id]": "a1"}).encode()


def proof(content: bytes, secret: str, *, at: float | None = None) -> dict[str, str]:
    """Sign as Mailchimp does."""
    stamp = int(time() if at is None else at)
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + content, hashlib.sha256).hexdigest()
    return {"x-mailchimp-signature": f"t={stamp},v1={digest}"}


def exchange(
    target: Target,
    content: bytes,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "POST",
    path: str | None = None,
    length: int | None = None,
) -> int:
    """Send one request on a connection of its own; give the status of the answer, or LOST."""
    lines = [
        f"{method} {path or target.path} HTTP/1.1",
        f"host: {target.host}",
        "connection: close",
        f"content-length: {len(content) if length is None else length}",
        *(f"{name}: {value}" for name, value in ({"content-type": FORM} | dict(headers or {})).items()),
    ]
    return raw(target, "\r\n".join(lines).encode() + b"\r\n\r\n" + content)


def raw(target: Target, said: bytes) -> int:
    """Say anything at all, and read the status of what comes back."""
    heard = b""
    with socket.create_connection((target.host, target.port), timeout=60) as connection:
        with suppress(OSError):  # it may close the door in the middle, and still say why
            connection.sendall(said)
        with suppress(OSError):
            while b"\r\n" not in heard and (part := connection.recv(4_096)):
                heard += part
    line = heard.partition(b"\r\n")[0].split()
    return int(line[1]) if len(line) > 1 else LOST


def kinds(target: Target) -> dict[str, Callable[[int], int]]:
    """Give every kind of attack, each as a function of a number that makes it another one."""
    secret = target.secret

    def signed(content: bytes, **more: str) -> int:
        return exchange(target, content, proof(content, secret) | more)

    return {
        "no signature": lambda n: exchange(target, body(n)),
        "another's signature": lambda n: exchange(target, body(n), proof(body(n), "another")),
        "the signature of another body": lambda n: exchange(target, body(n), proof(body(n + 1), secret)),
        "a mangled signature": lambda n: exchange(
            target, body(n), {"x-mailchimp-signature": f"t={n},v1={'f' * (n % 130)}"}
        ),
        "a stale signature": lambda n: exchange(target, body(n), proof(body(n), secret, at=time() - 301 - n)),
        "a signature from the future": lambda n: exchange(
            target, body(n), proof(body(n), secret, at=time() + 360 + n)
        ),
        "a wrong token": lambda n: exchange(
            target, body(n), proof(body(n), secret), path=f"{target.path[:-1]}{n % 10}x"
        ),
        "nobody's door": lambda n: exchange(target, body(n), path=f"/webhooks/nobody{n}/{'t' * 43}"),
        "a path with dots": lambda n: exchange(target, body(n), path=f"/webhooks/../{'%2e/' * (n % 9)}etc"),
        "another method": lambda n: exchange(
            target, body(n), method=("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW")[n % 6]
        ),
        "JSON": lambda n: signed(b'{"type": "unsubscribe"}', **{"content-type": "application/json"}),
        "malformed JSON": lambda n: signed(b"[" * (n + 1), **{"content-type": "application/json"}),
        "a malformed form": lambda n: signed(b"type=%ff%fe&data[email]=%c3%28&" + bytes([n % 256]) * 50),
        "too many fields": lambda n: signed(b"&".join(b"a%d=1" % each for each in range(1_100 + n % 7))),
        "no address": lambda n: signed(
            urlencode({"type": "unsubscribe", "fired_at": "2026-02-28 09:30:00", "n": n}).encode()
        ),
        "no time": lambda n: signed(
            urlencode({"type": "cleaned", "data[email]": f"h{n}@shop.example"}).encode()
        ),
        "an unknown type": lambda n: signed(body(n, f"kind{n}")),
        "no body": lambda n: signed(b""),
        "a body that is said to be negative": lambda n: exchange(target, b"", length=-1 - n),
        "no HTTP": lambda n: raw(target, bytes((n * 7 + each) % 256 for each in range(300)) + b"\r\n\r\n"),
        "endless headers": lambda n: raw(
            target,
            b"POST / HTTP/1.1\r\n" + b"".join(b"x-%d: %s\r\n" % (each, b"y" * 100) for each in range(300)),
        ),
        "a line without an end": lambda n: raw(target, b"GET /" + b"a" * 70_000),
    }


def large(target: Target, number: int) -> int:
    """Send 10 MB, rightly signed."""
    content = b"type=unsubscribe&data[email]=" + b"a" * 10_000_000 + b"%d" % number
    return exchange(target, content, proof(content, target.secret))


def slow(target: Target, number: int) -> int:
    """Say that a body comes, and let it not come: gives the status after the server's patience is over."""
    content = body(number)
    return exchange(target, content[:10], proof(content, target.secret), length=len(content))


def silent(target: Target, number: int) -> int:
    """Begin with headers and never end them."""
    return raw(target, b"POST %s HTTP/1.1\r\nhost: a\r\nx-%d: " % (target.path.encode(), number))
