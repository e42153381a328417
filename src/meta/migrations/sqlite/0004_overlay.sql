-- What services cannot keep of the objects that lie on them: documents by the space of the mount and the key.

CREATE TABLE overlay (
    space    TEXT NOT NULL,
    name     TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (space, name)
) STRICT, WITHOUT ROWID;
