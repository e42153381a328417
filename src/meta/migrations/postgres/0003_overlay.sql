-- What services cannot keep of the objects that lie on them: documents by the space of the mount and the key.

CREATE TABLE overlay (
    space    TEXT COLLATE "C" NOT NULL,
    name     TEXT COLLATE "C" NOT NULL,
    document TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (space, name)
);
