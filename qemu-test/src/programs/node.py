# Node.js digests and sorts for all clients at once.
import json

TURNS = 10 * TIMES


def client(number):
    connection = http.client.HTTPConnection("127.0.0.1", 8000, timeout=60)
    patiently(connection.connect)
    source = random.Random(number)
    for turn in range(TURNS):
        numbers = [source.randrange(10**9) for _ in range(turn % 25 * 40)]
        body = json.dumps(numbers)
        connection.request("POST", f"/{number}", body)
        said = json.loads(connection.getresponse().read())
        wanted = {"digest": digest(body.encode()), "sorted": sorted(numbers), "asked": turn + 1}
        assert said == wanted, (number, turn, said["asked"])


clients(client)
