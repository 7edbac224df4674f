-- The fold of the ledger. Beside each table: the entry that fills it. Times are Unix seconds, digests 32 bytes.
-- A change here raises VERSION in mod.rs; the index is then folded again from the ledger.

-- every batch
CREATE TABLE ledger (
    origin TEXT PRIMARY KEY,
    size   INTEGER NOT NULL,
    root   BLOB NOT NULL
) STRICT;

-- every entry
CREATE TABLE entry (
    position  INTEGER PRIMARY KEY,
    envelope  BLOB NOT NULL UNIQUE,
    predicate TEXT NOT NULL,
    subject   TEXT NOT NULL,
    stream    TEXT NOT NULL,
    seq       INTEGER NOT NULL,
    at        INTEGER NOT NULL
) STRICT;
CREATE INDEX entry_by_subject ON entry (subject, position);
CREATE INDEX entry_by_predicate ON entry (predicate, position) WHERE predicate IN ('revocation-list', 'erasure');
CREATE INDEX entry_by_stream ON entry (stream, position) WHERE stream <> 'open';

-- every entry: how many slots of a stream are used
CREATE TABLE stream (
    name  TEXT PRIMARY KEY,
    count INTEGER NOT NULL
) STRICT;

-- namespace, rotation, access
CREATE TABLE namespace (
    name       TEXT PRIMARY KEY,
    id         BLOB NOT NULL,
    keys       TEXT NOT NULL,
    home       TEXT NOT NULL,
    visibility TEXT NOT NULL,
    sites      TEXT NOT NULL DEFAULT '[]',
    counter    INTEGER NOT NULL,
    head       BLOB NOT NULL
) STRICT;

-- access: which sites may or might read a private namespace; the entry that ended it, where one did
CREATE TABLE reader (
    namespace TEXT NOT NULL,
    site      TEXT NOT NULL,
    ended     INTEGER,
    PRIMARY KEY (namespace, site)
) STRICT, WITHOUT ROWID;

-- gate
CREATE TABLE gate (
    namespace    TEXT NOT NULL,
    tag          TEXT NOT NULL,
    position     INTEGER NOT NULL,
    requirements TEXT NOT NULL,
    PRIMARY KEY (namespace, tag)
) STRICT;

-- release, tag, residency, withdrawal; the last four from the newest release's config, where it is at hand
CREATE TABLE artifact (
    name           TEXT PRIMARY KEY,
    namespace      TEXT NOT NULL,
    kind           TEXT,
    counter        INTEGER NOT NULL,
    head           BLOB NOT NULL,
    label          TEXT,
    label_position INTEGER,
    license        TEXT,
    architecture   TEXT,
    parameters     TEXT,
    words          TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX artifact_by_namespace ON artifact (namespace, name);

-- release; withdrawal fills the last three
CREATE TABLE release (
    artifact           TEXT NOT NULL,
    manifest           BLOB NOT NULL,
    position           INTEGER NOT NULL,
    at                 INTEGER NOT NULL,
    files              INTEGER NOT NULL,
    bytes              INTEGER NOT NULL,
    withdrawn          TEXT,
    withdrawn_position INTEGER,
    erase              INTEGER NOT NULL DEFAULT 0,
    -- what stands for it in sets: see sets.rs
    element            BLOB NOT NULL,
    PRIMARY KEY (artifact, manifest)
) STRICT;
CREATE INDEX release_by_element ON release (element, withdrawn) WHERE withdrawn IS NULL;
CREATE INDEX release_by_position ON release (position);

-- scorecard: what a site has measured on a release
CREATE TABLE scorecard (
    position  INTEGER PRIMARY KEY,
    artifact  TEXT NOT NULL,
    manifest  BLOB NOT NULL,
    at        INTEGER NOT NULL,
    engine    TEXT NOT NULL,
    version   TEXT NOT NULL,
    precision TEXT NOT NULL,
    -- the suite's name and manifest, where one was asked
    asked     TEXT,
    suite     BLOB,
    details   BLOB,
    statement TEXT NOT NULL
) STRICT;
CREATE INDEX scorecard_by_suite ON scorecard (asked, position) WHERE asked IS NOT NULL;
CREATE INDEX scorecard_by_release ON scorecard (artifact, manifest, engine, version);

-- custody: what a site does with the bytes of another site's release
CREATE TABLE custody (
    position INTEGER PRIMARY KEY,
    site     TEXT NOT NULL,
    artifact TEXT NOT NULL,
    manifest BLOB NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT,
    home     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    at       INTEGER NOT NULL
) STRICT;
CREATE INDEX custody_by_release ON custody (artifact, manifest, site, position);

-- custody: what a site holds of a home's releases by what it said last, in the order of sets
CREATE TABLE holding (
    site     TEXT NOT NULL,
    home     TEXT NOT NULL,
    element  BLOB NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (site, home, element)
) STRICT, WITHOUT ROWID;

-- tag
CREATE TABLE tag (
    artifact TEXT NOT NULL,
    tag      TEXT NOT NULL,
    manifest BLOB NOT NULL,
    position INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    PRIMARY KEY (artifact, tag)
) STRICT;

-- release, by its manifest where that is at hand: those that pack files. Where a packed file lies is looked up in the
-- list that the release carries: rows for each of them would be most of the index.
CREATE TABLE packed (
    artifact TEXT NOT NULL,
    position INTEGER NOT NULL,
    manifest BLOB NOT NULL,
    PRIMARY KEY (artifact, position)
) STRICT, WITHOUT ROWID;

-- release, by its manifest where that is at hand: what the artifact was made from, whose labels hold for it as well
CREATE TABLE lineage (
    artifact TEXT NOT NULL,
    ancestor TEXT NOT NULL,
    PRIMARY KEY (artifact, ancestor)
) STRICT, WITHOUT ROWID;
CREATE INDEX lineage_by_ancestor ON lineage (ancestor);

-- release: each distinct layer with its recipe
CREATE TABLE content (
    id      INTEGER PRIMARY KEY,
    sha256  BLOB NOT NULL,
    recipe  BLOB NOT NULL,
    size    INTEGER NOT NULL,
    planner TEXT NOT NULL,
    UNIQUE (sha256, recipe)
) STRICT;

-- release: its layers; gone once it was withdrawn with erasure, and so is below what no other release has
CREATE TABLE release_content (
    artifact TEXT NOT NULL,
    manifest BLOB NOT NULL,
    content  INTEGER NOT NULL,
    PRIMARY KEY (artifact, manifest, content)
) STRICT, WITHOUT ROWID;
CREATE INDEX release_by_content ON release_content (content);

-- release: through which artifacts a layer may be read
CREATE TABLE content_use (
    content  INTEGER NOT NULL,
    artifact TEXT NOT NULL,
    PRIMARY KEY (content, artifact)
) STRICT, WITHOUT ROWID;

-- release, with the recipe that the statement names by digest: through which layers a chunk may be read
CREATE TABLE chunk_use (
    chunk   BLOB NOT NULL,
    content INTEGER NOT NULL,
    PRIMARY KEY (chunk, content)
) STRICT, WITHOUT ROWID;
