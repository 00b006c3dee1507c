-- What is needed to start a queued response after a restart, besides its request. Gone as soon as it has started.
CREATE TABLE call (
    run INTEGER PRIMARY KEY REFERENCES response ON DELETE CASCADE,
    kept BLOB NOT NULL
) STRICT;
