# The program: a web application that counts the words of what is posted to it.
import collections, hashlib, json, socketserver, threading
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

words, lock = collections.Counter(), threading.Lock()


def application(environment, start):
    length = int(environment.get("CONTENT_LENGTH") or 0)
    body = environment["wsgi.input"].read(length)
    route = environment["REQUEST_METHOD"], environment["PATH_INFO"]
    status, answer = "404 Not Found", {}
    if route == ("POST", "/words"):
        with lock:
            words.update(body.decode().split())
        status, answer = "200 OK", {"digest": hashlib.sha256(body).hexdigest()}
    elif route == ("GET", "/words"):
        with lock:
            status, answer = "200 OK", dict(words)
    start(status, [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


class Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


make_server("0.0.0.0", 8000, application, Server, Quiet).serve_forever()
