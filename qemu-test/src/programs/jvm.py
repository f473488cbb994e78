# Threads of the JVM digest texts, and count together without losing any.
TURNS = 20 * TIMES


def client(number):
    stream = connected(8000).makefile("rwb")

    def ask(line):
        stream.write(line.encode() + b"\n")
        stream.flush()
        return stream.readline().decode().strip()

    source = random.Random(number)
    for turn in range(TURNS):
        text = " ".join(source.choices(["rot", "grün", "blau"], k=1 + 20 * (turn % 60)))
        assert ask(f"digest {text}") == digest(text.encode()), (number, turn)
        ask("count all")
    return ask


asks = clients(client)
assert asks[0]("count all") == str(CLIENTS * TURNS + 1)
