"""The gateway's HTTP interface as the page sees it, answered from a recorded session."""

from __future__ import annotations

import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "gateway" / "page"
SESSION = json.loads(Path(__file__).with_name("session.json").read_text())
MODEL = "paceline-embedded"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
WORKERS = [
    ("verifier", "verifier", "", MODEL, 2.5, 1),
    ("draft", "drafter", "model", "draft", 0.35, 1),
    ("ngram", "drafter", "ngram", "", 0.04, 1),
]


@dataclass(frozen=True)
class Refusal:
    status: int
    message: str
    param: str | None = None
    code: str | None = None
    retry_after: int | None = None


@dataclass
class Script:
    """How the gateway behaves; a test changes it as it goes."""

    api_key: str | None = None
    refusal: Refusal | None = None
    prices: bool = True
    speed: float = 20.0
    """How many times as fast as it was."""
    first_text: str | None = None
    """Instead of the first token's."""
    break_after: int | None = None
    """Chunks after which the connection closes."""
    fail_after: int | None = None
    """Chunks after which an error comes in the stream."""
    fail_code: str | None = None
    goes_on: bool = False
    """Events have ids; whoever asks with the last one gets what comes after it, and what broke does not break again."""
    heard: list[int] = field(default_factory=list)
    """Chunks that clients who asked again had."""
    away: set[str] = field(default_factory=set)
    """Workers that are not healthy."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    """The client closed its connection before the end."""


def chunks(script: Script) -> Iterator[tuple[float, dict[str, Any]]]:
    """When, since the session was opened, each chunk came, and what it said."""
    total = len(SESSION["chunks"])
    for index, recorded in enumerate(SESSION["chunks"]):
        said = json.loads(json.dumps(recorded))
        if index == 0 and script.first_text is not None:
            said["tokens"][0]["text"] = script.first_text
        last = index == total - 1
        text = "".join(token["text"] for token in said["tokens"])
        choice = {"index": 0, "text": text, "finish_reason": "length" if last else None}
        chunk = {"id": "cmpl-1", "object": "text_completion", "choices": [choice], "usage": None, "speculation": said}
        if last:
            chunk["metrics"] = {"speculative_decoding": {"mean_acceptance_length": mean_accepted_length()}}
            chunk["usage"] = {"prompt_tokens": SESSION["prompt_tokens"], "completion_tokens": count_tokens()}
        yield said["events"][-1]["decided"], chunk


def count_tokens() -> int:
    return sum(len(chunk["tokens"]) for chunk in SESSION["chunks"])


def mean_accepted_length() -> float:
    return count_tokens() / len(SESSION["chunks"])


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Script

    def log_message(self, *said: object) -> None:
        """Tests have no use for a log."""

    def do_GET(self) -> None:
        path = self.path.lstrip("/") or "index.html"
        if path.startswith("v1/"):
            self._listing(path)
        elif (PAGE / path).is_file():
            self._send(200, (PAGE / path).read_bytes(), TYPES[Path(path).suffix], {"Content-Security-Policy": POLICY})
        else:
            self._error(Refusal(404, f"no {path}"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        self.script.requests.append(body)
        if self.script.refusal:
            self._error(self.script.refusal)
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream()
        except (BrokenPipeError, ConnectionResetError):
            self.script.hung_up.set()

    def _stream(self) -> None:
        opened, script, begin = time.monotonic(), self.script, int(self.headers.get("Last-Event-ID", 0))
        if begin:
            script.heard.append(begin)
        for index, (at, chunk) in enumerate(chunks(script)):
            if index < begin:
                continue
            if index == script.break_after and not (script.goes_on and index == begin):
                return
            if index == script.fail_after and not (script.goes_on and index == begin):
                error = {"message": "no verifier is left", "type": "server_error", "code": script.fail_code}
                self._data(json.dumps({"error": error}), index)
                return
            time.sleep(max(0.0, opened + at / script.speed - time.monotonic()))
            self._data(json.dumps(chunk, ensure_ascii=False), index + 1)
        self._data("[DONE]")

    def _data(self, data: str, count: int = 0) -> None:
        name = f"\nid: {count}" if self.script.goes_on and count else ""
        self.wfile.write(f"data: {data}{name}\n\n".encode())
        self.wfile.flush()

    def _listing(self, path: str) -> None:
        if not self._allowed():
            return
        listed: list[dict[str, object]] = [{"id": MODEL, "object": "model", "max_model_len": 4096}]
        if path == "v1/workers":
            names = ("id", "role", "kind", "model", "price_per_hour", "sessions")
            listed = [dict(zip(names, worker, strict=True)) for worker in WORKERS]
            for worker in listed:
                worker |= {"healthy": worker["id"] not in self.script.away, "max_sessions": 256}
                if not self.script.prices:
                    worker["price_per_hour"] = 0.0
        self._send(200, json.dumps({"object": "list", "data": listed}).encode(), "application/json")

    def _allowed(self) -> bool:
        key = self.script.api_key
        if key is None or hmac.compare_digest(self.headers.get("Authorization", ""), f"Bearer {key}"):
            return True
        self._error(Refusal(401, "missing or unknown API key"))
        return False

    def _error(self, refusal: Refusal) -> None:
        error = {"message": refusal.message, "type": "error", "param": refusal.param, "code": refusal.code}
        headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else {}
        self._send(refusal.status, json.dumps({"error": error}).encode(), "application/json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def serving(script: Script) -> Iterator[str]:
    """Serves on a free port; yields the page's address."""
    handler = type("Scripted", (Handler,), {"script": script})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()
