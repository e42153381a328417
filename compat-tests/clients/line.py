"""A line between a gateway and what it depends on: it can be slow, hang, be cut, and be mended."""

import socket
import threading
import time


class Line:
    """A TCP listener on the loopback interface that passes on what comes."""

    def __init__(self, host: str, port: int):
        self.target, self.delay = (host, port), 0.0
        self.flows, self.cut_off = threading.Event(), False
        self.flows.set()
        self.ends: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.cut_off:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target)
            except OSError:
                near.close()
                continue
            self.ends += [near, far]
            for source, sink, slow in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._pump, args=(source, sink, slow), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, slow: bool) -> None:
        try:
            while data := source.recv(65_536):
                if slow and self.delay:
                    time.sleep(self.delay)
                self.flows.wait()
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def hang(self) -> None:
        """From now on it takes everything and passes nothing on."""
        self.flows.clear()

    def cut(self) -> None:
        """Ends all connections, and lets none through."""
        self.cut_off = True
        for end in self.ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.ends.clear()

    def mend(self) -> None:
        """Passes on again, also what has waited."""
        self.cut_off = False
        self.flows.set()

    def close(self) -> None:
        self.listener.close()
        self.mend()
        self.cut()
