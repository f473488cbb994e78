# Files of many sizes, written beside nginx, are fetched by all clients at once.
TURNS = 6 * TIMES
sizes = [0, 1, 4095, 4096, 65537, 300000]
files = [random.Random(size).randbytes(size) for size in sizes]
for number, data in enumerate(files):
    with open(f"/data/{number}", "wb") as file:
        file.write(data)


def answer(connection, method, path, headers={}):
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    return response.status, response.read(), response.headers


def client(number):
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=60)
    patiently(connection.connect)
    fetched = 0
    for turn in range(TURNS):
        which = (turn + number) % len(files)
        status, body, headers = answer(connection, "GET", f"/files/{which}")
        assert (status, digest(body)) == (200, digest(files[which])), (which, status, len(body))
        fetched += len(body)
        again = {"If-None-Match": headers["ETag"]}
        assert answer(connection, "GET", f"/files/{which}", again)[0] == 304
        begin, end = len(body) // 3, len(body) // 2
        if begin < end:
            part = {"Range": f"bytes={begin}-{end - 1}"}
            status, piece, _ = answer(connection, "GET", f"/files/{which}", part)
            assert (status, piece) == (206, body[begin:end]), (which, status)
    assert answer(connection, "GET", "/files/none")[0] == 404
    return fetched


assert sum(clients(client)) == CLIENTS * TURNS // len(files) * sum(sizes)
