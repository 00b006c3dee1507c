-- Responses, newest last. What grows large is not in this table, so that a poll or a list never loads it.
CREATE TABLE response (
    run INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: the order of creation
    owner TEXT NOT NULL,
    id TEXT NOT NULL,
    status TEXT NOT NULL,
    background INTEGER NOT NULL,
    stream INTEGER NOT NULL,
    created_at INTEGER NOT NULL,            -- unix seconds
    conversation TEXT,
    previous_id TEXT,
    agent_id TEXT,
    session TEXT,
    epoch INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    ended_at_ms INTEGER,                    -- unix milliseconds; NULL until the end
    envelope BLOB NOT NULL,
    UNIQUE (owner, id)
) STRICT;

-- Each serves one filter of a list, and is in the order of the list by itself: SQLite puts `run` behind.
CREATE INDEX response_by_owner ON response (owner);
CREATE INDEX response_by_conversation ON response (conversation) WHERE conversation IS NOT NULL;
CREATE INDEX response_by_end ON response (ended_at_ms);

-- The body of the POST, and the final object: tables of their own, because an UPDATE rewrites its whole row.
CREATE TABLE request (
    run INTEGER PRIMARY KEY REFERENCES response ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

CREATE TABLE result (
    run INTEGER PRIMARY KEY REFERENCES response ON DELETE CASCADE,
    body BLOB NOT NULL
) STRICT;

-- Events that arrived together. `last` is the number of the last one, so that "after" is one range of the index.
-- A table with an index beside it: clustered by run (WITHOUT ROWID), a commit for a hundred runs writes a hundred
-- pages and takes twice the time.
CREATE TABLE chunk (
    run INTEGER NOT NULL REFERENCES response ON DELETE CASCADE,
    last INTEGER NOT NULL,
    at_ms INTEGER NOT NULL,                 -- unix milliseconds
    sizes BLOB NOT NULL,                    -- the length of each event, 32 bits, little-endian
    data BLOB NOT NULL,                     -- the events, one after the other
    PRIMARY KEY (run, last)
) STRICT;

-- `last_seq` is not stored but found in the index of the chunks: an append is one INSERT.
CREATE VIEW head AS
SELECT
    run, owner, id, status, background, stream, created_at, envelope, conversation, previous_id, agent_id, session,
    epoch, coalesce((SELECT max(last) FROM chunk WHERE chunk.run = response.run), -1) AS last_seq, cancel_requested,
    ended_at_ms
FROM response;
