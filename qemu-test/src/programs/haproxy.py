# Both backends get their share; while one of them is killed, no request fails.
import collections


def ask():
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    connection.request("GET", "/name")
    response = connection.getresponse()
    body = response.read().decode()
    assert (response.status, len(body)) == (200, 4), (response.status, body)
    return body


def asked(times):
    shares = clients(lambda _: collections.Counter(ask() for _ in range(times)))
    return sum(shares, collections.Counter())


def both():
    shares = asked(5)
    if len(shares) != 2:
        raise OSError(shares)


def ask_or_kill(client):
    if client == 0:
        kill("httpd", "8002")
    return collections.Counter(ask() for _ in range(10 * TIMES))


def ready():
    try:
        return ask()
    except AssertionError as error:
        raise OSError(error)


patiently(ready)
patiently(both)
shares = asked(10 * TIMES)
assert set(shares) == {"one\n", "two\n"} and min(shares.values()) >= 15 * TIMES, shares
shares = sum(clients(ask_or_kill), collections.Counter())
assert shares["one\n"] > shares["two\n"], shares
patiently(both)
