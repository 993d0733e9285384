"""The review over real HTTP: what it answers, whom, and what comes to stand in the file."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ssae_debias.cli import main
from ssae_debias.decisions import Decision, Decisions, read_decisions, write_decisions
from ssae_debias.report import example_content, write_report
from ssae_debias.report.page import render
from ssae_debias.review import Review, open_review

SAES = example_content().saes


@pytest.fixture(scope="module")
def page() -> str:
    return render(example_content())  # two seconds of plots, once


@pytest.fixture
def folder(page: str, tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    return tmp_path


@pytest.fixture
def review(folder: Path) -> Iterator[Review]:
    with serving(folder) as running:
        yield running


class serving:
    def __init__(self, folder: Path) -> None:
        self.review = open_review(folder)

    def __enter__(self) -> Review:
        threading.Thread(
            target=self.review.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self.review

    def __exit__(self, *_: object) -> None:
        self.review.shutdown()
        self.review.server_close()


def ask(
    review: Review, method: str, path: str, body: Any = None, *, host: str | None = None, token: str | None = "",
    **headers: str,
) -> tuple[int, str, dict[str, str]]:  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", review.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{review.server_port}")
    if token is not None:
        connection.putheader("X-Review-Token", token or review.token)
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", "Content-Length": str(len(content)), **{
        name.replace("_", "-"): value for name, value in headers.items()}}  # fmt: skip
    for name, value in sent.items():
        connection.putheader(name, value)
    connection.endheaders(content)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text, dict(answer.getheaders())


def change(latent: int, decision: str | None, note: str = "", site: str = "embed") -> dict[str, Any]:
    return {"site": site, "latent": latent, "decision": decision, "note": note}


def test_the_page_is_served_with_its_token_and_leave_to_call_home(review: Review) -> None:
    status, page, headers = ask(review, "GET", f"/?token={review.token}", token=None)
    assert status == 200
    assert f'<meta name="ssae-debias-review" content="{review.token}">' in page
    policy = headers["Content-Security-Policy"]
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert policy.removesuffix("; frame-ancestors 'none'") in page  # the page's own says no less
    assert page.count("Content-Security-Policy") == 1
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Python" not in headers["Server"]


def test_changes_come_to_stand_in_the_file_and_are_given_back(review: Review, folder: Path) -> None:
    path = folder / "decisions.json"
    assert not path.exists()
    status, _, _ = ask(review, "POST", "/decisions", {"changes": [change(118, "keep", "a task word ☂")]})
    assert status == 200
    read = read_decisions(path)
    assert read.items["embed", 118] == Decision("keep", "a task word ☂")
    assert read.saes == SAES
    # what a person had decided before the page was made is not lost by a run with this file
    assert read.items["resid.3", 640].decision == "keep"
    status, text, _ = ask(review, "GET", "/decisions")
    assert json.loads(text)["decisions"][0] == change(118, "keep", "a task word ☂")
    ask(review, "POST", "/decisions", {"changes": [change(118, None), change(402, "keep")]})
    assert set(read_decisions(path).items) == {("embed", 402), ("resid.3", 640)}


def test_two_tabs_the_last_word_on_a_latent_holds_and_others_stay(review: Review, folder: Path) -> None:
    for latent, word in ((118, "keep"), (402, "keep"), (118, "ablate")):
        ask(review, "POST", "/decisions", {"changes": [change(latent, word)]})
    words = read_decisions(folder / "decisions.json").words
    assert (words["embed", 118], words["embed", 402]) == ("ablate", "keep")


def test_many_at_once_lose_nothing(review: Review, folder: Path) -> None:
    def press(latent: int, times: int) -> None:
        for number in range(times):
            site = "embed" if latent in (118, 402) else "resid.1"
            ask(review, "POST", "/decisions", {"changes": [change(latent, "keep", str(number), site)]})

    threads = [threading.Thread(target=press, args=(latent, 15)) for latent in (118, 402, 57, 893)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes = read_decisions(folder / "decisions.json").notes
    assert [notes[key] for key in (("embed", 118), ("embed", 402), ("resid.1", 57), ("resid.1", 893))] == [
        "14"
    ] * 4
    assert {file.name for file in folder.iterdir()} == {"report.html", "decisions.json"}


def test_what_stands_in_the_file_is_shown_and_kept(folder: Path) -> None:
    write_decisions(
        folder / "decisions.json",
        Decisions(
            {("embed", 402): Decision("keep", "mine"), ("embed", 9): Decision("ablate", "not on the page")}
        ),
    )
    with serving(folder) as review:
        listed = json.loads(ask(review, "GET", "/decisions")[1])["decisions"]
        assert change(402, "keep", "mine") in listed
        ask(review, "POST", "/decisions", {"changes": [change(118, "keep")]})
    assert set(read_decisions(folder / "decisions.json").items) == {
        ("embed", 402),
        ("embed", 9),
        ("embed", 118),
    }


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"token": None}, 403),
        ({"token": "guess"}, 403),
        ({"token": "\xff\xfe"}, 403),
        ({"host": "evil.example"}, 403),  # a name that was made to resolve to this machine
        ({"host": "127.0.0.1"}, 403),
        ({"host": "evil.example:{port}"}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),  # what a form of another page could send
        ({"Content_Length": "x"}, 411),
        ({"Content_Length": "-1"}, 411),
        ({"Transfer_Encoding": "chunked"}, 411),
        ({"Content_Length": "5000000"}, 413),
        ({"Content_Length": "9" * 30}, 413),
    ],
)
def test_strangers_and_floods_are_refused(
    review: Review, folder: Path, headers: dict[str, Any], status: int
) -> None:
    headers = {k: v.format(port=review.server_port) if isinstance(v, str) else v for k, v in headers.items()}
    got, why, _ = ask(review, "POST", "/decisions", {"changes": [change(118, "keep")]}, **headers)
    assert got == status
    assert review.token not in why
    assert not (folder / "decisions.json").exists()


def test_the_page_itself_needs_the_token_and_the_right_name(review: Review) -> None:
    for path in ("/", "/?token=", "/?token=x", f"/?tok={review.token}"):
        status, text, _ = ask(review, "GET", path, token=None)
        assert status == 403
        assert "Latents" not in text
    path = f"/?token={review.token}"
    assert ask(review, "GET", path, token=None, host="evil.example")[0] == 403
    assert ask(review, "GET", path, token=None, host=f"localhost:{review.server_port}")[0] == 200
    assert ask(review, "GET", path, token=None, Sec_Fetch_Site="cross-site")[0] == 403


@pytest.mark.parametrize(
    "path",
    ["/report.html", "/decisions.json", "/decisions/", "/../report.html", "/%2e%2e/etc/passwd",
     "/etc/passwd", "/decisions/../report.html", "/favicon.ico"],
)  # fmt: skip
def test_nothing_else_is_served(review: Review, path: str) -> None:
    assert ask(review, "GET", path)[0] in (403, 404)
    assert ask(review, "POST", path, {"changes": []})[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_not_known(review: Review, method: str) -> None:
    status, _, headers = ask(review, method, "/decisions")
    assert status == 501
    assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        ([], "changes is a list"),
        ({"changes": {}}, "changes is a list"),
        ({"changes": [None]}, "it takes an object"),
        ({"changes": [change(118, "remove")]}, "'ablate' or 'keep'"),
        ({"changes": [change(118, "keep", "x" * 2001)]}, "at most 2,000 characters"),
        ({"changes": [change(118, "keep"), change(119, "keep")]}, "lists no latent 119 at 'embed'"),
        ({"changes": [change(118, None, site="nowhere")]}, "lists no latent 118 at 'nowhere'"),
        ({"changes": [{**change(118, "keep"), "path": "/etc/passwd"}]}, "has 'path' too"),
    ],
)
def test_bad_changes_change_nothing(review: Review, folder: Path, body: Any, why: str) -> None:
    status, text, _ = ask(review, "POST", "/decisions", body)
    assert status == 400
    assert why in text
    assert not (folder / "decisions.json").exists()


def test_a_file_damaged_meanwhile_is_never_written_over(review: Review, folder: Path) -> None:
    (folder / "decisions.json").write_text('{"format": "ssae-debias deci')
    status, why, _ = ask(review, "POST", "/decisions", {"changes": [change(118, "keep")]})
    assert status == 400
    assert "not valid JSON" in why
    assert (folder / "decisions.json").read_text() == '{"format": "ssae-debias deci'


def test_a_silent_caller_keeps_nobody_waiting(review: Review) -> None:
    with socket.create_connection(("127.0.0.1", review.server_port)) as silent:
        silent.sendall(b"POST /decisions HTTP/1.1\r\nContent-Le")
        assert ask(review, "GET", "/decisions")[0] == 200


def test_only_this_machine_is_listened_to(review: Review) -> None:
    assert review.server_address[0] == "127.0.0.1"


def test_decisions_about_other_saes_end_it_before_it_begins(folder: Path, capsys) -> None:
    made = Decisions({("embed", 402): Decision("keep")}, {"embed": "f" * 16})
    path = write_decisions(folder / "decisions.json", made)
    before = path.read_text()
    assert main(["review", str(folder), "--no-browser"]) == 2
    assert "made about other SAEs" in capsys.readouterr().err
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "There is no report"),
        ("<p>holiday photos</p>", "no report of ssae-debias"),
        ('<meta name="generator" content="ssae-debias">', "lists no latents"),
    ],
)
def test_what_cannot_be_reviewed_is_said(tmp_path: Path, capsys, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "report.html").write_text(content)
    assert main(["review", str(tmp_path), "--no-browser"]) == 2
    assert message in capsys.readouterr().err


def test_a_report_without_latents_or_fingerprints(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", dataclasses.replace(example_content(), flagged=None))
    with pytest.raises(ValueError, match="lists no latents"):
        open_review(tmp_path)
    write_report(tmp_path / "report.html", dataclasses.replace(example_content(), saes=None))
    with open_review(tmp_path / "report.html") as review:
        review.file.change([change(118, "keep")])
    assert read_decisions(tmp_path / "decisions.json").saes == {}


@pytest.mark.skipif(os.name == "nt", reason="needs signals")
def test_the_command_prints_its_address_and_stops_by_ctrl_c(folder: Path) -> None:
    command = [sys.executable, "-m", "ssae_debias", "review", str(folder), "--no-browser"]
    # as in a terminal: what a shell starts in the background ignores Ctrl-C, and so does all that it starts
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, preexec_fn=heard, **pipes) as running:
        assert running.stdout is not None
        address = running.stdout.readline().split()[-1]
        port, token = address.removeprefix("http://127.0.0.1:").split("/?token=")
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
        connection.request("GET", f"/?token={token}")
        assert connection.getresponse().status == 200
        running.send_signal(signal.SIGINT)
        try:
            out, error = running.communicate(timeout=30)
        finally:
            running.kill()  # leaving the block waits for it
    assert running.returncode == 0, error
    assert "nothing was decided" in out
    assert error == ""


def test_a_taken_port_is_said(review: Review, folder: Path, capsys) -> None:
    assert main(["review", str(folder), "--no-browser", "--port", str(review.server_port)]) == 1
    assert "cannot listen at 127.0.0.1" in capsys.readouterr().err
    assert main(["review", str(folder), "--no-browser", "--port", "70000"]) == 2
