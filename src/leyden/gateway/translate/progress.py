"""Whether the arguments of a tool call, which come in pieces, make a complete JSON object yet."""


class ArgumentsProgress:
    """Counts brackets outside of strings, each character at most once and only when somebody asks."""

    __slots__ = ("_depth", "_escaped", "_in_string", "_is_complete", "_unread")

    def __init__(self) -> None:
        self._unread: list[str] = []
        self._is_complete = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def add(self, piece: str) -> None:
        """Take the next piece."""
        self._unread.append(piece)

    @property
    def is_complete(self) -> bool:
        """Whether the bracket that closes the first one came."""
        unread, self._unread = self._unread, []
        for piece in unread:
            for character in piece:
                self._read(character)
        return self._is_complete

    def _read(self, character: str) -> None:
        if self._escaped:
            self._escaped = False
        elif self._in_string:
            self._escaped = character == "\\"
            self._in_string = character != '"'
        elif character == '"':
            self._in_string = True
        elif character in "{[":
            self._depth += 1
        elif character in "}]":
            self._depth -= 1
            self._is_complete = self._is_complete or self._depth <= 0
