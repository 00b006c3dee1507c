-- name: standing
-- what decides about the next write, for a response that the writer does not know by heart
SELECT run, status, epoch, last_seq, cancel_requested FROM head WHERE owner = ? AND id = ?

-- name: insert_response
-- a new response; its run is the order of creation
INSERT INTO response
    (
        owner, id, status, background, stream, created_at, envelope, conversation, previous_id, agent_id, session, epoch,
        created_at_ms, claim, claim_digest
    )
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: claimed
-- whose an idempotency key is, unless it was claimed too long ago
SELECT id, claim_digest FROM response WHERE owner = ? AND claim = ? AND created_at > ?

-- name: free_claim
-- take an idempotency key, claimed too long ago, from its response
UPDATE response SET claim = NULL, claim_digest = NULL WHERE owner = ? AND claim = ?

-- name: insert_request
-- the body of its POST
INSERT INTO request (run, body) VALUES (?, ?)

-- name: insert_large_request
-- the same, its body to be filled in
INSERT INTO request (run, body) VALUES (?, zeroblob(?))

-- name: insert_call
-- what else is needed to start a queued response later
INSERT INTO call (run, kept) VALUES (?, ?)

-- name: forget_call
-- at its start or its end
DELETE FROM call WHERE run = ?

-- name: start
-- a queued response is in progress
UPDATE response SET status = 'in_progress' WHERE run = ?

-- name: insert_chunk
-- the hot statement: all that an append is, most of the time
INSERT INTO chunk (run, last, at_ms, sizes, data) VALUES (?, ?, ?, ?, ?)

-- name: insert_large_chunk
-- the same, its data to be filled in
INSERT INTO chunk (run, last, at_ms, sizes, data) VALUES (?, ?, ?, ?, zeroblob(?))

-- name: note
-- what the agent said of itself; NULL leaves what is known
UPDATE response SET agent_id = coalesce(?, agent_id), session = coalesce(?, session) WHERE run = ?

-- name: end
-- the terminal status
UPDATE response SET status = ?, ended_at_ms = ? WHERE run = ?

-- name: insert_result
-- the final object, in the transaction of the end
INSERT INTO result (run, body) VALUES (?, ?)

-- name: insert_large_result
-- the same, its body to be filled in
INSERT INTO result (run, body) VALUES (?, zeroblob(?))

-- name: request_cancel
-- the wish to cancel
UPDATE response SET cancel_requested = 1 WHERE run = ?

-- name: delete
-- a response with everything of it: the other tables cascade
DELETE FROM response WHERE run = ?

-- name: next_ended
-- the response that ended next after a moment, the older one of two
SELECT run, owner, id, ended_at_ms FROM response
WHERE (ended_at_ms, run) > (?, ?) AND owner <> 'expired' ORDER BY ended_at_ms, run LIMIT 1

-- name: hide
-- of what expires, when it takes more than one transaction: its id and its idempotency key are free, and nobody finds
-- it (an owner that was named by a header has "=" in it)
UPDATE response
SET owner = 'expired', id = CAST(run AS TEXT), conversation = NULL, claim = NULL, claim_digest = NULL
WHERE run = ?

-- name: hidden
-- what has begun to go
SELECT run FROM response WHERE owner = 'expired'

-- name: last_chunks
-- the end of its events, with their sizes
SELECT last, length(data) FROM chunk WHERE run = ? ORDER BY last DESC LIMIT ?

-- name: delete_chunks
-- its events from a number on
DELETE FROM chunk WHERE run = ? AND last >= ?

-- name: size_of_bodies
-- what goes with the row of a response
SELECT
    coalesce((SELECT length(body) FROM request WHERE run = ?), 0)
    + coalesce((SELECT length(body) FROM result WHERE run = ?), 0)

-- name: adopt
-- fence every writer of before
UPDATE response SET epoch = epoch + 1 WHERE ended_at_ms IS NULL

-- name: orphans
-- what was adopted, oldest first
SELECT * FROM head WHERE ended_at_ms IS NULL ORDER BY run

-- name: head
-- one response
SELECT * FROM head WHERE owner = ? AND id = ?

-- name: position
-- how far a response has come, for a page of its events
SELECT run, status, last_seq FROM head WHERE owner = ? AND id = ?

-- name: chunks
-- its events after a number; NULL for data that is loaded only where there is room for it
SELECT last, at_ms, sizes, iif(length(data) <= 32768, data, NULL), rowid, length(data)
FROM chunk WHERE run = ? AND last > ? ORDER BY last

-- name: request
-- the body of the POST
SELECT request.body FROM response JOIN request USING (run) WHERE owner = ? AND id = ?

-- name: call
-- what was kept for the start of a queued response; a row with NULL if nothing was
SELECT call.kept FROM response LEFT JOIN call USING (run) WHERE owner = ? AND id = ?

-- name: result
-- the final object; a row with NULL while there is none, and its size without it if it is large
SELECT run, length(result.body), iif(length(result.body) <= 1048576, result.body, NULL)
FROM response LEFT JOIN result USING (run) WHERE owner = ? AND id = ?

-- name: list
-- responses, newest first; conditions are put between these two
SELECT * FROM head WHERE owner <> 'expired'

-- name: list_order
-- the second part of the list
ORDER BY run DESC LIMIT :limit

-- name: list_owner
-- of one owner
AND owner = :owner

-- name: list_conversation
-- of one conversation
AND conversation = :conversation

-- name: list_status
-- with one status
AND status = :status

-- name: list_visible
-- without foreground responses in flight
AND (background OR ended_at_ms IS NOT NULL)

-- name: list_after
-- older than a response; with several owners of its id than the oldest of them; if there is none this is no condition
AND run < coalesce(
    (SELECT min(run) FROM response AS mark WHERE mark.id = :after AND (:owner IS NULL OR mark.owner = :owner)),
    9223372036854775807
)

-- name: list_older_than
-- older than one response; if that is gone nothing is
AND run < (SELECT run FROM response AS mark WHERE mark.owner = :older_owner AND mark.id = :older_id)

-- name: list_prefix
-- with an id that begins so: a range of the index, read for every owner
AND run IN (
    SELECT run FROM response WHERE id >= :prefix AND id < :prefix || char(1114111)
)

-- name: list_since
-- not created before
AND created_at >= :since

-- name: list_until
-- not created after
AND created_at <= :until

-- name: list_text
-- with a piece of text in the body of the POST, whatever the case
AND EXISTS (
    SELECT 1 FROM request WHERE request.run = head.run AND instr(lower(CAST(request.body AS TEXT)), lower(:text))
)

-- name: owners
-- everybody: one step in the index for each owner, however many responses they have
WITH RECURSIVE each(owner) AS (
    SELECT min(owner) FROM response
    UNION ALL
    SELECT (SELECT min(owner) FROM response WHERE owner > each.owner) FROM each WHERE each.owner IS NOT NULL
)
SELECT owner FROM each WHERE owner IS NOT NULL AND owner <> 'expired'

-- name: by_status
-- how many responses there are
SELECT status, count(*) FROM response WHERE owner <> 'expired' GROUP BY status

-- name: sizes
-- bytes of what is remembered, and how many events
SELECT
    coalesce((SELECT sum(length(sizes)) FROM chunk), 0) / 4,
    coalesce((SELECT sum(length(data)) FROM chunk), 0),
    coalesce((SELECT sum(length(body)) FROM request), 0),
    coalesce((SELECT sum(length(body)) FROM result), 0)

-- name: holes
-- chunks that do not continue the one before
SELECT owner, id, first, expected FROM (
    SELECT
        run, last - length(sizes) / 4 + 1 AS first,
        coalesce(lag(last) OVER (PARTITION BY run ORDER BY last), -1) + 1 AS expected
    FROM chunk
) JOIN response USING (run) WHERE first <> expected AND owner <> 'expired'

-- name: last_events
-- how ended responses end, oldest first
SELECT response.run, owner, id, chunk.sizes, chunk.data
FROM response LEFT JOIN chunk ON chunk.run = response.run
    AND chunk.last = (SELECT max(last) FROM chunk AS other WHERE other.run = response.run)
WHERE response.run > ? AND ended_at_ms IS NOT NULL AND owner <> 'expired' ORDER BY response.run LIMIT ?

-- name: without_request
-- responses without the body of their POST
SELECT owner, id FROM response WHERE owner <> 'expired' AND NOT EXISTS (SELECT 1 FROM request WHERE request.run = response.run)

-- name: without_result
-- ended responses without their final object, and others with one
SELECT owner, id, ended_at_ms IS NOT NULL FROM response
WHERE owner <> 'expired' AND (ended_at_ms IS NOT NULL) <> EXISTS (SELECT 1 FROM result WHERE result.run = response.run)

-- name: unlike_end
-- a terminal status without a time of the end, or the reverse
SELECT owner, id, status FROM response
WHERE (ended_at_ms IS NOT NULL) <> (status IN ('completed', 'failed', 'incomplete', 'cancelled'))
