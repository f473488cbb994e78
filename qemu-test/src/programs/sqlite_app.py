# The program: keeps numbers in SQLite, and answers when one is on the disk.
import socketserver, sqlite3


class Keeper(socketserver.StreamRequestHandler):
    def handle(self):
        base = sqlite3.connect("/data/base", timeout=60, isolation_level=None)
        base.execute("PRAGMA synchronous = FULL")
        for line in self.rfile:
            if line == b"check\n":
                (verdict,) = base.execute("PRAGMA integrity_check").fetchone()
                rows = base.execute("SELECT n, square FROM kept ORDER BY n").fetchall()
                self.wfile.write(repr((verdict, rows)).encode() + b"\n")
                continue
            n = int(line)
            base.execute("BEGIN IMMEDIATE")
            base.execute("INSERT INTO kept VALUES (?, ?)", (n, n * n))
            base.execute("COMMIT")
            self.wfile.write(line)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


base = sqlite3.connect("/data/base")
assert base.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
base.execute("CREATE TABLE IF NOT EXISTS kept (n INTEGER PRIMARY KEY, square INTEGER)")
base.commit()
base.close()
Server(("0.0.0.0", 7000), Keeper).serve_forever()
