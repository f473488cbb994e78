# The program is killed while all clients commit: what it acknowledged is there.
import ast

ROWS = 20 * TIMES
acknowledged = [[] for _ in range(CLIENTS)]


def ask(stream, line):
    stream.write(line)
    stream.flush()
    answer = stream.readline()
    if not answer.endswith(b"\n"):
        raise ConnectionError("the program went")
    return answer


def write(client):
    stream = connected(7000).makefile("rwb")
    try:
        for row in range(ROWS):
            line = b"%d\n" % (client * ROWS + row)
            assert ask(stream, line) == line
            acknowledged[client].append(int(line))
            if client == 0 and row == ROWS // 2:
                kill("python3", "keeper")
    except OSError:
        pass


clients(write)
kept = [number for one in acknowledged for number in one]
assert 0 < len(kept) < CLIENTS * ROWS, len(kept)
check = lambda: ask(connected(7000).makefile("rwb"), b"check\n")
verdict, rows = ast.literal_eval(patiently(check).decode())
assert verdict == "ok", verdict
assert all(square == n * n for n, square in rows)
missing = set(kept) - {n for n, _ in rows}
assert not missing, missing
# Each client may have had one on its way.
assert len(rows) <= len(kept) + CLIENTS, (len(rows), len(kept))
