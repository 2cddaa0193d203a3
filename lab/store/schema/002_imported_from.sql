-- Where a run came from: NULL where this lab measured it, else the name of the file that it, or a part of it, was imported from.
ALTER TABLE runs ADD COLUMN imported_from VARCHAR;
