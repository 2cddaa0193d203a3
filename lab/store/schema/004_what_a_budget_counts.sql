-- What a budget counts of a call, also where its cost is unknown: more blocks and a resume go on from the same sum.
ALTER TABLE calls ADD COLUMN counted_usd DOUBLE;
