"""`ssae-debias review DIR`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "path", type=Path, metavar="DIR", help="a folder with report.html, or the page itself"
    )
    parser.add_argument(
        "--port", type=int, default=0, help="where to listen on this machine (default: any free)"
    )
    parser.add_argument("--no-browser", action="store_true", help="print the address and open nothing")


def command(options: argparse.Namespace) -> int:
    """Serve the report until Ctrl-C."""
    import webbrowser

    from ssae_debias.review import open_review

    with open_review(options.path, port=options.port) as review:
        print(f"review     {review.url}\ndecisions  {review.file.path}\nCtrl-C stops.", flush=True)
        if not options.no_browser:
            webbrowser.open(review.url)
        try:
            review.serve_forever()
        except KeyboardInterrupt:
            print(f"\nstopped; {_left(review.file.path)}", flush=True)
    return 0


def _left(path: Path) -> str:
    if not path.exists():
        return "nothing was decided."
    return f"decisions are in {path}: ssae-debias run … --decisions {path}"
