"""An OpenAI-compatible server in a process of its own that misbehaves on request: the name of the model says how.

Run: `python teacher_server.py`; it prints its port, and ends when its input does. `GET /log` is the list of requests so far. It says a lower-case
letter for each word of the prompt; its tokens are single characters, the likeliest has probability 1/2, the next 1/4, and so on.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LOG: list[dict[str, Any]] = []
ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def answer_to(prompt: str) -> str:
    return "".join(ALPHABET[sum(word.encode()) % 26] for word in prompt.split())


def likely(said: str, k: int) -> list[tuple[str, float]]:
    """The k likeliest characters where `said` is said, with their log-probabilities."""
    first = ALPHABET.index(said)
    return [(ALPHABET[(first + rank) % 26], -(rank + 1) * math.log(2)) for rank in range(k)]


def completion(asked: dict[str, Any]) -> dict[str, Any]:
    text, k = answer_to(asked["messages"][-1]["content"]), asked.get("top_logprobs")
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop", "logprobs": None}
    if k:
        choice["logprobs"] = {"content": [entry(char, likely(char, k)) for char in text]}
    used = {"prompt_tokens": 10, "completion_tokens": len(text), "total_tokens": 10 + len(text)}
    return {"id": "x", "object": "chat.completion", "choices": [choice], "usage": used, "system_fingerprint": "fp_7"}


def entry(said: str, best: list[tuple[str, float]]) -> dict[str, Any]:
    tops = [{"token": char, "logprob": value, "bytes": list(char.encode())} for char, value in best]
    return {"token": said, "logprob": best[0][1], "bytes": list(said.encode()), "top_logprobs": tops}


def spoiled(model: str, document: dict[str, Any]) -> dict[str, Any]:
    """The reply of a model whose JSON is sound and whose words are not."""
    choice = document["choices"][0]
    entries = (choice["logprobs"] or {}).get("content") or [{}]
    if model == "no-choices":
        document["choices"] = []
    elif model == "no-text":
        choice["message"]["content"] = None
    elif model == "no-logprobs":
        choice["logprobs"] = None
    elif model == "few-logprobs":
        entries[-1]["top_logprobs"].pop()
    elif model == "other-tokens":
        entries[0] |= {"token": "!", "bytes": [33]}
    elif model == "foreign-token":
        entries[0]["top_logprobs"][0] |= {"token": "zebra", "bytes": list(b"zebra")}
    elif model == "too-likely":
        entries[0]["top_logprobs"][0]["logprob"] = 0.0
    elif model == "twice":
        entries[0]["top_logprobs"][1] = entries[0]["top_logprobs"][0]
    elif model == "positive":
        entries[0]["top_logprobs"][0]["logprob"] = 3.0
    elif model == "words":
        entries[0]["logprob"] = "likely"
    elif model == "changed":
        document["system_fingerprint"] = f"fp_{len(LOG) % 2}"
    elif model == "uncounted":
        del document["usage"]
    elif model.startswith("score "):
        choice["message"]["content"] = f'Here: {{"score": {model[6:]}, "feedback": "be brief"}}'
    elif model.startswith("in words "):
        choice["message"]["content"] = f'```json\n{{"score": {model[9:]}}}\n```'
    elif model.startswith("number "):
        choice["message"]["content"] = model[7:]
    return document


RAW = {
    "html": b"<html><body><h1>Welcome to nginx</h1></body></html>",
    "empty": b"",
    "text": b"The answer is 4.",
    "array": b"[1, 2]",
    "half": b'{"choices": [{"mess',
    "nan": b'{"choices": NaN}',
    "keys": b'{"choices": [], "choices": []}',
    "latin": '{"choices": "é"}'.encode("latin-1"),
    "deep": b'{"choices": ' + b"[" * 5000 + b"]" * 5000 + b"}",
}
REFUSED = {"wrong-key": 401, "no-model": 404, "bad-request": 400, "broken": 500, "elsewhere": 302, "busy": 429}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a test's output is its own."""

    def do_GET(self) -> None:
        self.reply(200, json.dumps(LOG).encode())

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        model = asked["model"]
        before = sum(one["body"] == asked for one in LOG)
        LOG.append({"body": asked, "path": self.path, "key": self.headers.get("Authorization")})
        if model == "late":
            time.sleep(3)
        if model == "unhurried":
            time.sleep(0.05)
        if model == "closes":
            self.close_connection = True
        elif model == "dribbles":
            self.dribble()
        elif model == "stops-short":
            self.reply(200, b'{"choices": [', length=1000)
            self.close_connection = True
        elif model == "endless":
            self.reply(200, b" " * (17 << 20))
        elif model in RAW:
            self.reply(200, RAW[model])
        elif model in REFUSED:
            self.reply(REFUSED[model], f"not with {self.headers.get('Authorization')}".encode())
        elif model == "recovers" and before < 2:
            self.reply(503 if before else 429, b"one moment", wait="0")
        elif model == "stops-at-5" and len({json.dumps(one["body"]) for one in LOG if one["body"]["model"] == model}) > 5:
            self.reply(402, b'{"error": {"message": "insufficient funds"}}')
        else:
            self.reply(200, json.dumps(spoiled(model, completion(asked))).encode())

    def reply(self, status: int, body: bytes, *, length: int | None = None, wait: str | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        if wait is not None:
            self.send_header("Retry-After", wait)
        self.end_headers()
        self.wfile.write(body)

    def dribble(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        try:
            for _ in range(200):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            self.close_connection = True


def main() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
