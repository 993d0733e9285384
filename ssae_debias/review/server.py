"""The server of a review: one page and one resource, for one person on one machine.

    GET  /?token=…     the report, with leave to call this server
    GET  /decisions    what has been decided
    POST /decisions    {"changes": [{"site", "latent", "decision", "note"}, …]}

A server on the loopback address is still within reach of every page that the browser has open and of every user of
the machine. So: a random token, in the address for the page and in a header for the rest (which no form and no other
origin can send); the ``Host`` must be this address (a name that an attacker lets resolve to 127.0.0.1 is not); where
the browser says an ``Origin`` or ``Sec-Fetch-Site``, it must be this page's. Paths are compared, never opened.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from ssae_debias.decisions import to_json
from ssae_debias.review.keeping import DecisionFile
from ssae_debias.review.listing import read_listing

HOST = "127.0.0.1"
PAGE, DECISIONS = "report.html", "decisions.json"
MAX_PAGE, MAX_BODY = 64 * 2**20, 4 * 2**20
_POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">')


def open_review(path: str | os.PathLike[str], *, port: int = 0) -> Review:
    """Get a review of a report ready to be served.

    Parameters
    ----------
    path : path-like
        A folder with `report.html`, or the page itself. Decisions are kept in `decisions.json` beside it.
    port : int, default=0
        0 takes any free one.

    Returns
    -------
    Review
        Listening at its `url`; `serve_forever` answers.

    Raises
    ------
    FileNotFoundError
        There is no report.
    DamagedFileError, ValueError
        The page is no report with latents, or the decisions beside it are not about them.
    OSError
        The port is taken.

    Examples
    --------
    >>> import tempfile
    >>> from ssae_debias.report import example_content, write_report
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = write_report(folder / "report.html", example_content())
    >>> with open_review(folder) as review:
    ...     review.url.split(":")[0], len(review.file.listing.latents)
    ('http', 6)
    """
    path = Path(path)
    page = path / PAGE if path.is_dir() else path
    if not page.is_file():
        raise FileNotFoundError(
            f"There is no report {page}. Give the folder that `ssae-debias run` or an audit wrote, or its page."
        )
    if page.stat().st_size > MAX_PAGE:
        raise ValueError(f"{page} is larger than any report of ssae-debias.")
    text = page.read_text(encoding="utf-8", errors="replace")
    try:
        listing = read_listing(text)
        if not _POLICY.search(text):
            raise ValueError("it has no content security policy: it was altered or is of another release.")
    except ValueError as error:
        raise ValueError(f"{page} cannot be reviewed: {error}") from error
    return Review(text, DecisionFile(page.parent / DECISIONS, listing), port)


class Review(ThreadingHTTPServer):
    """A page and its file of decisions, served on the loopback address.

    Attributes
    ----------
    file : DecisionFile
    token : str
        What a caller must know.
    url : str
        The page's address, with the token.
    """

    daemon_threads = True
    # The default lets two servers share a port on Windows, and a second review would answer for the first.
    allow_reuse_address = os.name == "posix"

    def __init__(self, page: str, file: DecisionFile, port: int = 0) -> None:
        self.file = file
        self.token = secrets.token_urlsafe(24)
        self.page, self.policy = _served(page, self.token)
        try:
            super().__init__((HOST, port), _Answer)  # closes itself, and so the file, where that fails
        except OverflowError as error:
            raise ValueError(f"a port lies in 0 … 65535; got {port}.") from error
        except OSError as error:
            raise OSError(
                error.errno, f"cannot listen at {HOST}:{port} ({error.strerror}); try --port 0"
            ) from error

    @property
    def url(self) -> str:
        """The address to open."""
        return f"http://{HOST}:{self.server_port}/?token={self.token}"

    @property
    def names(self) -> tuple[str, str]:
        """How a browser on this machine may call the server."""
        return f"{HOST}:{self.server_port}", f"localhost:{self.server_port}"

    def server_close(self) -> None:
        """Stop listening, with whatever was being written whole on the disk."""
        self.file.close()
        super().server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that hangs up is nothing to tell a person about."""


def _served(page: str, token: str) -> tuple[bytes, str]:
    """The page with its token and with leave to call its own server, and the policy that it then has."""
    found = _POLICY.search(page)
    assert found is not None
    policy = f"{found[1]}; connect-src 'self'"
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
    meta += f'<meta name="ssae-debias-review" content="{token}">'
    return (page[: found.start()] + meta + page[found.end() :]).encode(), policy


class _Refusal(Exception):
    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Answer(BaseHTTPRequestHandler):
    server: Review
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "ssae-debias", ""
    timeout = 30  # seconds; a caller that sends nothing holds no thread for longer

    def do_GET(self) -> None:
        try:
            self._refuse_strangers()
            address = urlsplit(self.path)
            if address.path == "/":
                self._refuse_without(parse_qs(address.query).get("token", [""])[-1])
                self._send(200, self.server.page, "text/html; charset=utf-8")
            elif address.path == "/decisions":
                self._refuse_without(self.headers.get("X-Review-Token", ""))
                self._send_json(to_json(self.server.file.read()))
            else:
                raise _Refusal(404, "There is the report and its decisions, and nothing else.")
        except (_Refusal, ValueError, OSError) as error:
            self._refuse(error)

    def do_POST(self) -> None:
        try:
            self._refuse_strangers()
            if urlsplit(self.path).path != "/decisions":
                raise _Refusal(404, "There is the report and its decisions, and nothing else.")
            self._refuse_without(self.headers.get("X-Review-Token", ""))
            content = self._body()
            changes = content.get("changes") if isinstance(content, dict) else None
            self._send_json(to_json(self.server.file.change(changes)))
        except (_Refusal, ValueError, OSError) as error:
            self._refuse(error)

    def _refuse_strangers(self) -> None:
        names = self.server.names
        if self.headers.get_all("Host", []) not in [[name] for name in names]:
            raise _Refusal(403, "This server answers to its own address only.")
        origin = self.headers.get("Origin")
        if origin is not None and origin not in [f"http://{name}" for name in names]:
            raise _Refusal(403, "Another page asked; only the report itself may.")
        if self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise _Refusal(403, "Another page asked; only the report itself may.")

    def _refuse_without(self, token: str) -> None:
        if not secrets.compare_digest(token.encode(errors="replace"), self.server.token.encode()):
            raise _Refusal(
                403, "Open the address that `ssae-debias review` printed: its token is missing here."
            )

    def _body(self) -> object:
        if self.headers.get_content_type() != "application/json":
            raise _Refusal(415, "Changes come as application/json.")
        length = self.headers.get("Content-Length", "")
        if not length.isascii() or not length.isdigit() or self.headers.get("Transfer-Encoding"):
            raise _Refusal(411, "A body needs its length.")
        if len(length) > 12 or int(length) > MAX_BODY:
            raise _Refusal(413, f"A body has at most {MAX_BODY:,} bytes.")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError) as error:
            raise _Refusal(400, "The body is not valid JSON.") from error

    def _refuse(self, error: Exception) -> None:
        status = (
            error.status if isinstance(error, _Refusal) else 400 if isinstance(error, ValueError) else 500
        )
        self.close_connection = True  # what is left of a refused body is not read as the next request
        self._send(status, f"{error}\n".encode(errors="replace"), "text/plain; charset=utf-8")

    def _send_json(self, content: object) -> None:
        self._send(200, json.dumps(content, ensure_ascii=False).encode(errors="replace"), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Security-Policy", f"{self.server.policy}; frame-ancestors 'none'")
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """A terminal that fills with requests hides the address that a person needs."""
