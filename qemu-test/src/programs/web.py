# Texts are posted by all clients at once: each is received whole, none is lost.
import collections, json

TEXTS = 6 * TIMES


def text(client, number):
    source = random.Random(client * TEXTS + number)
    return " ".join(source.choices(["red", "green", "blue", "grün"], k=1 + 200 * (number % 15)))


def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def client(number):
    sent = collections.Counter()
    for turn in range(TEXTS):
        body = text(number, turn)
        data = body.encode()
        assert ask("POST", "/words", data) == (200, {"digest": digest(data)}), (number, turn)
        sent.update(body.split())
    return sent


assert patiently(lambda: ask("GET", "/none")) == (404, {})
sent = sum(clients(client), collections.Counter())
assert ask("GET", "/words") == (200, dict(sent)), sent
