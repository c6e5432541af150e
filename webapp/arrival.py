"""Arrival: how far the bytes of a request have come, without reading what they say."""

import re

HEAD_LIMIT = 64 * 1024  # twice what nginx takes (large_client_header_buffers 4 8k)
BODY_LIMIT = 65 * 1024  # as sent, for a result of 64 KiB; a longer one the application reads itself
FRAMING = re.compile(rb"\r\n(content-length|transfer-encoding|expect):([^\r]*)")
LENGTH = re.compile(rb"0*([0-9]{1,18})\Z")  # more digits exceed 64 bits
BARE_LF = re.compile(rb"(?<!\r)\n")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]+)[ \t]*(?:;|\Z)")


class Arrival:
    """The bytes of a request so far, and whether a thread can go on with them.

    It can when the request is `whole`, or when gunicorn's parser or the application will refuse
    it without reading on. What they would read on is refused here: that is the `refusal`.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self.whole = False
        self.refusal = 0  # the status, if any
        self.expects_continue = False
        self._ready = Arrival._head  # not bound to self: that would make a reference cycle
        self._searched = 0  # the head does not end before here
        self._body = 0  # where the body starts
        self._next = 0  # where the body ends or, if it is chunked, the next chunk starts

    def add(self, piece: bytes) -> bool:
        """Take in a piece, and tell whether a thread can go on."""
        self.received += piece
        return self._ready(self)

    def _head(self) -> bool:
        end = self.received.find(b"\r\n\r\n", max(self._searched - 3, 0))
        if end < 0:
            return self._endless_head()
        self._body = self._next = end + 4
        head = self.received[:end].lower()
        fields = {name: value.strip() for name, value in FRAMING.findall(head)}
        self.expects_continue = b"expect" in fields and b" http/1.1\r\n" in head
        if b"transfer-encoding" in fields:
            self._ready = Arrival._chunks
            coding = fields[b"transfer-encoding"].split(b",")[-1].strip()
            sane = coding == b"chunked" and b"content-length" not in fields
        else:
            self._ready = Arrival._sized_body
            length = LENGTH.match(fields.get(b"content-length", b"0"))
            size = int(length[1]) if length else BODY_LIMIT + 1
            sane = size <= BODY_LIMIT and head.count(b"\r\ncontent-length:") <= 1
            self._next += size
        sane = sane and fields.get(b"expect", b"100-continue") == b"100-continue"
        return not sane or self._ready(self)

    def _endless_head(self) -> bool:
        if BARE_LF.search(self.received, self._searched):
            return True  # the parser refuses it
        self._searched = len(self.received)
        too_long = self._searched > HEAD_LIMIT
        self.refusal = 431 if too_long and b"\r\n" in self.received else 0
        return too_long and not self.refusal  # the parser refuses so long a request line

    def _sized_body(self) -> bool:
        self.whole = len(self.received) >= self._next
        return self.whole

    def _chunks(self) -> bool:
        """Walk from chunk to chunk. No header has told the application how long they all are."""
        while (line_end := self.received.find(b"\r\n", self._next)) >= 0:
            size = CHUNK_SIZE.match(self.received, self._next, line_end)
            ended = self._next == self._body or self.received.endswith(b"\r\n", 0, self._next)
            if not (size and ended):
                return True  # the parser refuses it
            if not int(size[1], 16):
                self.whole = self.received.find(b"\r\n\r\n", line_end) >= 0
                break
            self._next = line_end + 2 + int(size[1], 16) + 2
        if not self.whole and max(self._next, len(self.received)) - self._body > BODY_LIMIT:
            self.refusal = 413
        return self.whole
