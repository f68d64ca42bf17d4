"""The index of words behind the search, and everything in which the two databases' differ.

SQLite: an FTS5 table without the texts and without positions, 1 to 2 % of what was recorded. PostgreSQL: a tsvector with GIN.
Owns: which texts hold all of some words. Refuses to know: what a text is, who says it, and whether words stand in a row.

Texts are numbered by `message.id`, newest highest. Each carries one more word, made of its project: the words of one tenant are
never walked through for another.
"""

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache

import sqlalchemy as sa

from leyden.ingest.wanted import Term, Wanted
from leyden.store.engine import Tx

_ADD = {
    "sqlite": sa.text("INSERT INTO message_index(rowid, body) VALUES (:id, :body)"),
    "postgresql": sa.text(
        "INSERT INTO message_index(rowid, body) VALUES (:id, array_to_tsvector(string_to_array(:body, ' ')))"
    ),
}
_MATCH = {
    "sqlite": sa.text(
        "SELECT rowid FROM message_index WHERE message_index MATCH :wanted AND rowid <= :newest ORDER BY rowid DESC LIMIT :most"
    ),
    "postgresql": sa.text(
        "SELECT rowid FROM message_index WHERE body @@ CAST(:wanted AS tsquery) AND rowid <= :newest ORDER BY rowid DESC LIMIT :most"
    ),
}
_TAKE_OUT = sa.text("INSERT INTO message_index(message_index, rowid, body) VALUES ('delete', :id, :body)")


@lru_cache
def project_word(project: str) -> str:
    """The word that every text of a project carries. No text has it by itself: the first character is no letter."""
    return "\u00a4" + hashlib.blake2b(project.encode(), digest_size=6).hexdigest()


def body(words: str, *, project: str) -> str:
    """What is indexed of a text of a project, given its words with a space between them; "" when it has none."""
    return f"{project_word(project)} {words}" if words else ""


def add(tx: Tx, texts: Sequence[tuple[int, str]]) -> None:
    """Index texts, given as (number, body)."""
    if texts:
        tx.connection.execute(_ADD[tx.dialect.name], [{"id": id_, "body": said} for id_, said in texts])


def matching(tx: Tx, wanted: Wanted, *, project: str, newest: int, most: int) -> list[int]:
    """Numbers of texts that hold the words, from `newest` downwards. Whether phrases stand in a row, their texts say."""
    render = _fts5 if tx.is_sqlite else _tsquery
    asked = {"wanted": render(wanted, project_word(project)), "newest": newest, "most": most}
    return [row[0] for row in tx.all(_MATCH[tx.dialect.name], asked)]


def _fts5(wanted: Wanted, also: str) -> str:
    # Words hold letters and digits alone, so nothing in the quotes can end them.
    def term(one: Term) -> str:
        words = [f'"{word}"' for word in one.words]
        return " AND ".join([*words[:-1], words[-1] + (" *" if one.prefix else "")])

    clauses = ["(" + " OR ".join(f"({term(t)})" for t in clause) + ")" for clause in wanted.clauses]
    positive = " AND ".join([*clauses, f'"{also}"'])
    return f"({positive})" + "".join(f" NOT ({term(t)})" for t in wanted.without if len(t.words) == 1)


def _tsquery(wanted: Wanted, also: str) -> str:
    def term(one: Term) -> str:
        words = [f"'{word}'" for word in one.words]
        return " & ".join([*words[:-1], words[-1] + (":*" if one.prefix else "")])

    clauses = ["(" + " | ".join(f"({term(t)})" for t in clause) + ")" for clause in wanted.clauses]
    return " & ".join(
        [*clauses, f"'{also}'", *(f"!({term(t)})" for t in wanted.without if len(t.words) == 1)]
    )


def remove(tx: Tx, ids: Sequence[int]) -> bool:
    """Take texts out. False on SQLite, which must be told their words: they stay until `words_of` and `take_out`."""
    if tx.is_sqlite:
        return False
    tx.run(sa.text("DELETE FROM message_index WHERE rowid = ANY(:ids)"), {"ids": list(ids)})
    return True


def words_of(tx: Tx, ids: Iterable[int]) -> dict[int, str]:
    """The words of texts as the index has them, without their order. SQLite only; reads the whole index once."""
    found: dict[int, list[str]] = {id_: [] for id_ in ids}
    last = ""
    cursor = tx.connection.exec_driver_sql("SELECT doc, term FROM message_index_words")
    for doc, term in cursor:
        if doc in found:
            last = term if term != last else last  # one string for all its texts
            found[doc].append(last)
    return {id_: " ".join(dict.fromkeys(words)) for id_, words in found.items()}


def take_out(tx: Tx, texts: Sequence[tuple[int, str]]) -> None:
    """Take texts out, given with their words. SQLite only."""
    if texts:
        tx.connection.execute(_TAKE_OUT, [{"id": id_, "body": words} for id_, words in texts])


def clear(tx: Tx) -> None:
    """Forget every text."""
    tx.driver(
        "INSERT INTO message_index(message_index) VALUES ('delete-all')"
        if tx.is_sqlite
        else "DELETE FROM message_index"
    )


def tidy(tx: Tx, *, pages: int) -> bool:
    """Merge parts of the index, at most about `pages` pages of work; whether there was any. Small steps, for the writer."""
    if not tx.is_sqlite:
        return False
    before = tx.driver("SELECT total_changes()")[0][0]
    tx.driver(f"INSERT INTO message_index(message_index, rank) VALUES ('merge', {pages})")
    return tx.driver("SELECT total_changes()")[0][0] - before >= 2
