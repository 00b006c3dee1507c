-- The idempotency key of the POST, and the digest of its body: in the row itself, so that both come and go together.
ALTER TABLE response ADD COLUMN claim TEXT;
ALTER TABLE response ADD COLUMN claim_digest BLOB;

CREATE UNIQUE INDEX response_by_claim ON response (owner, claim) WHERE claim IS NOT NULL;
