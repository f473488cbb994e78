# All clients set, read, compare and swap; counts add up.
KEYS = 16 * TIMES
PORT = 11211


class Memcached:
    def __init__(self):
        self.stream = connected(PORT).makefile("rwb")

    def call(self, line, data=None):
        self.stream.write(line.encode() + b"\r\n")
        if data is not None:
            self.stream.write(data + b"\r\n")
        self.stream.flush()
        return self.stream.readline().rstrip().decode()

    def get(self, key):
        head = self.call(f"gets {key}").split()
        if head == ["END"]:
            return None, None
        data = self.stream.read(int(head[3]) + 2)[:-2]
        assert self.stream.readline() == b"END\r\n"
        return data, int(head[4])


def value(client, key):
    return random.Random(client * KEYS + key).randbytes(101 * (key % 60))


def client(number):
    cache = Memcached()
    for key in range(KEYS):
        data = value(number, key)
        assert cache.call(f"set {number}-{key} 7 0 {len(data)}", data) == "STORED"
        cache.call("incr count 1")
    for key in range(KEYS):
        assert cache.get(f"{number}-{key}")[0] == value(number, key), key
    swapped = 0
    while swapped < 5 * TIMES:
        old, unique = cache.get("swapped")
        new = b"%d" % (int(old) + 1)
        said = cache.call(f"cas swapped 0 0 {len(new)} {unique}", new)
        assert said in ("STORED", "EXISTS"), said
        swapped += said == "STORED"
    for key in range(0, KEYS, 2):
        assert cache.call(f"delete {number}-{key}") == "DELETED"


cache = Memcached()
for name in ("count", "swapped"):
    assert cache.call(f"set {name} 0 0 1", b"0") == "STORED"
clients(client)
assert cache.get("count")[0].strip() == b"%d" % (CLIENTS * KEYS)
assert cache.get("swapped")[0] == b"%d" % (CLIENTS * 5 * TIMES)
for number in range(CLIENTS):
    for key in range(KEYS):
        wanted = value(number, key) if key % 2 else None
        assert cache.get(f"{number}-{key}")[0] == wanted, (number, key)
