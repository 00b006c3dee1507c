-- When the POST was taken, finer than the API tells it: what a first token is measured from. NULL in older rows.
ALTER TABLE response ADD COLUMN created_at_ms INTEGER;

DROP VIEW head;
CREATE VIEW head AS
SELECT
    run, owner, id, status, background, stream, created_at, envelope, conversation, previous_id, agent_id, session,
    epoch, coalesce((SELECT max(last) FROM chunk WHERE chunk.run = response.run), -1) AS last_seq, cancel_requested,
    ended_at_ms, created_at_ms
FROM response;
