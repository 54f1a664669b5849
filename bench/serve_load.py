#!/usr/bin/env python3
"""A server under load: many clients, of whom some vanish, are slow or send nonsense.

    bench/serve_load.py MODEL [--lieq PROGRAM] [--requests N] [--clients N] [--parallel N] [--tokens N]

Of a thousand requests some three in ten leave in the middle of a streamed answer, one in ten reads slowly, and one in
ten is broken. Every other one must come back whole, and equal to what the same prompt gave when it was asked alone.
Prints what came back, and the server's memory after each tenth.
"""
import argparse
import collections
import concurrent.futures
import http.client
import json
import pathlib
import random
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def body(prompt, tokens, stream):
    return json.dumps({"prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": stream})


def ask(port, prompt, tokens):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", body(prompt, tokens, False), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text)


def whole(port, prompt, tokens, expected, _):
    while True:
        status, answer = ask(port, prompt, tokens)
        if status != 503:
            break
        time.sleep(0.1)  # the queue is full: that is an answer too, and is tried again
    if status != 200:
        return f"status {status}"
    return "answered" if answer["choices"][0]["text"] == expected[prompt] else "ANOTHER TEXT"


def streamed(port, prompt, tokens, draw, leaves):
    """Reads events; leaves after some of them, or reads slowly to the end."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", body(prompt, tokens, True), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status != 200:
        return f"status {answer.status}"
    after, text = draw.randrange(0, tokens), ""
    while line := answer.readline():
        if line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            text += choices[0].get("text", "") if choices else ""
            after -= 1
        if leaves and after < 0:
            connection.sock.close() if connection.sock else answer.close()
            return "left"
        if not leaves and draw.random() < 0.05:
            time.sleep(0.05)
        if line.startswith(b"data: [DONE]"):
            return text
    return "CUT OFF"


def slow(port, prompt, tokens, expected, draw):
    text = streamed(port, prompt, tokens, draw, False)
    return "answered slowly" if text == expected[prompt] else text if text.startswith("status") else "ANOTHER TEXT"


def leaving(port, prompt, tokens, _, draw):
    result = streamed(port, prompt, tokens, draw, True)
    return result if result.startswith(("left", "status", "CUT")) else "left"


def broken(port, prompt, _tokens, _expected, draw):
    raw = draw.choice([b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{",
                       b"GARBAGE\r\n\r\n", b"POST /v1/completions HTTP/1.1\r\n",
                       b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nnonse"])
    with socket.create_connection(("127.0.0.1", port), timeout=600) as connection:
        connection.sendall(raw)
        if draw.random() < 0.5:
            connection.shutdown(socket.SHUT_WR)
    return "broken"


def memory(process):
    for line in pathlib.Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) // 1024
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--lieq", default=str(ROOT / "build/dev/lieq"))
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    server = subprocess.Popen([options.lieq, "serve", options.model, "--port", "0", "--parallel", str(options.parallel),
                               "--context", "512", "-q"], stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline().rsplit(":", 1)[1])
        prompts = [f"Chapter {n}: the {thing}" for n in range(4)
                   for thing in ("lighthouse", "river in the north", "old road", "market town")]
        expected = {prompt: ask(port, prompt, options.tokens)[1]["choices"][0]["text"] for prompt in prompts}
        draw, jobs = random.Random(1), []
        for _ in range(options.requests):
            kind = draw.choices([whole, leaving, slow, broken], [5, 3, 1, 1])[0]
            jobs.append((kind, draw.choice(prompts), random.Random(draw.random())))
        counts, lock, done = collections.Counter(), threading.Lock(), 0
        print(f"memory at first  {memory(server)} MB")

        def run(job):
            nonlocal done
            kind, prompt, own = job
            try:
                result = kind(port, prompt, options.tokens, expected, own)
            except (OSError, http.client.HTTPException) as error:
                result = f"FAILED: {type(error).__name__}"
            with lock:
                counts[result] += 1
                done += 1
                if done % max(1, options.requests // 10) == 0:
                    print(f"memory at {done:5}  {memory(server)} MB", flush=True)

        begin = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
            list(pool.map(run, jobs))
        seconds = time.monotonic() - begin
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/health")
        print(f"health           {connection.getresponse().read().decode()}")
        for result, count in sorted(counts.items()):
            print(f"{count:6}  {result}")
        print(f"{options.requests} requests of {options.clients} clients in {seconds:.0f} s")
        bad = sum(count for result, count in counts.items() if result != result.lower())
        sys.exit(1 if bad else 0)
    finally:
        server.terminate()
        server.wait(timeout=60)


if __name__ == "__main__":
    main()
