-- A registry of schema 1, as the program of that time made it. Never edit this: it is what old hosts have.
CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL);
CREATE TABLE pools ( pool TEXT PRIMARY KEY NOT NULL CHECK (pool GLOB '[A-Z]'), has_gpus INTEGER NOT NULL CHECK (has_gpus IN (0, 1)));
CREATE TABLE pool_gpus ( pool TEXT NOT NULL REFERENCES pools (pool) ON DELETE CASCADE, position INTEGER NOT NULL CHECK (position BETWEEN 0 AND 15), gpu TEXT NOT NULL CHECK (length(gpu) BETWEEN 1 AND 47), PRIMARY KEY (pool, position));
CREATE UNIQUE INDEX pool_of_gpu ON pool_gpus (gpu) WHERE gpu <> 'software';
CREATE TABLE vms ( vm INTEGER PRIMARY KEY CHECK (vm BETWEEN 0 AND 4294967295), registered INTEGER NOT NULL CHECK (registered IN (0, 1)), name TEXT CHECK (length(CAST(name AS BLOB)) <= 64), pool TEXT CHECK (pool GLOB '[A-Z]'), priority INTEGER CHECK (priority BETWEEN 0 AND 2), weight INTEGER CHECK (weight BETWEEN 1 AND 10000), rate INTEGER CHECK (rate BETWEEN 1 AND 1000), burst_ms INTEGER CHECK (burst_ms BETWEEN 1 AND 60000), memory INTEGER CHECK (memory BETWEEN 1 AND 70368744177664), sessions INTEGER CHECK (sessions BETWEEN 1 AND 1024), quarantine_until INTEGER, quarantine_reason TEXT);
CREATE TABLE audit ( seq INTEGER PRIMARY KEY AUTOINCREMENT, time_ms INTEGER NOT NULL, uid INTEGER, pid INTEGER, op TEXT NOT NULL, target TEXT NOT NULL, old TEXT NOT NULL, new TEXT NOT NULL);
INSERT INTO meta VALUES ('starts', '0');
UPDATE meta SET value = '3' WHERE key = 'starts';
INSERT INTO pools VALUES ('B', 1);
INSERT INTO pool_gpus VALUES ('B', 0, 'software');
INSERT INTO pool_gpus VALUES ('B', 1, 'GPU-01234567-89ab-cdef-0123-456789abcdef');
INSERT INTO vms VALUES (7, 1, 'seven', 'B', 2, 300, 125, 40, 1073741824, 5, NULL, NULL);
INSERT INTO vms VALUES (8, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 9223372036854775807, 'by hand');
INSERT INTO audit (time_ms, uid, pid, op, target, old, new) VALUES (1790000000000, 0, 42, 'register-vm', 'vm 7', 'registered=no', 'registered=yes');
PRAGMA application_id = 1986490485;
PRAGMA user_version = 1;
