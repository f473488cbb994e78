# Redis is killed while all clients write: what it acknowledged is there again.
KEYS = 40 * TIMES
PORT = 6379


class Redis:
    def __init__(self):
        self.stream = connected(PORT).makefile("rwb")

    def call(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.stream.write(b"*%d\r\n" % len(words))
        for word in words:
            self.stream.write(b"$%d\r\n%s\r\n" % (len(word), word))
        self.stream.flush()
        return self.answer()

    def answer(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("redis went")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise ConnectionError(rest)  # LOADING, for one
        if kind == b"$":
            return None if rest == b"-1" else self.stream.read(int(rest) + 2)[:-2]
        return int(rest) if kind == b":" else rest


def value(client, key):
    return random.Random(client * KEYS + key).randbytes(1 + 37 * (key % 150))


acknowledged = [0] * CLIENTS


def write(client):
    redis = Redis()
    try:
        for key in range(KEYS):
            assert redis.call("SET", f"{client}-{key}", value(client, key)) == b"OK"
            redis.call("INCR", f"count-{client}")
            acknowledged[client] = key + 1
            if client == 0 and key == KEYS // 3:
                kill("redis-server")
    except OSError:
        pass


patiently(lambda: Redis().call("PING"))
clients(write)
assert 0 < sum(acknowledged) < CLIENTS * KEYS, acknowledged
redis = patiently(lambda: (redis := Redis(), redis.call("PING"))[0])
for client, count in enumerate(acknowledged):
    for key in range(count):
        assert redis.call("GET", f"{client}-{key}") == value(client, key), (client, key, count)
    counted = int(redis.call("GET", f"count-{client}") or 0)
    assert counted in (count, count + 1), (client, count, counted)
