"""Names that have broken somebody's S3 before."""

import hashlib
import pathlib

# Keys that no file system can hold as they are, or not side by side.
AWKWARD_KEYS = [
    "a",
    "a/",
    "a/b",
    "a//b",
    "/leading",
    "//two-leading",
    "trailing//",
    ".",
    "..",
    "./dot",
    "../dotdot",
    "x/./y",
    "x/../y",
    "plus+plus",
    "percent%41",
    "percent%2F",
    "space in the middle",
    " leading space",
    "trailing space ",
    "quote'double\"",
    "amp&lt<gt>",
    "question?mark",
    "hash#mark",
    "star*",
    "back\\slash",
    "colon:semi;comma,",
    "at@equals=",
    "Grüße/façade.txt",
    "日本語/ファイル",
    "emoji-🦀/🚰",
    "e\u0301-combining",
    "\u00e9-composed",
    "Case",
    "case",
    "tilde~",
    "k" * 1024,
    "s" * 300 + "/" + "t" * 300,
    "/".join(["d"] * 512),
]

# Names that a file system holds and that clients and servers trip over.
FILE_NAMES = [
    "plain.txt",
    "with space.txt",
    " leading space",
    "trailing space ",
    "plus+sign.txt",
    "percent%20.txt",
    "a%2Fb.txt",
    "amp&ersand.txt",
    "quote's.txt",
    'double"quote.txt',
    "less<more>.txt",
    "question?.txt",
    "hash#.txt",
    "semi;colon.txt",
    "comma,.txt",
    "equals=.txt",
    "at@.txt",
    "dollar$.txt",
    "brackets[1].txt",
    "braces{1}.txt",
    "paren(1).txt",
    "star*.txt",
    "tilde~.txt",
    "caret^.txt",
    "back`tick.txt",
    "pipe|.txt",
    "back\\slash.txt",
    "colon:.txt",
    "..two-dots",
    ".hidden",
    "...",
    "Grüße.txt",
    "日本語.txt",
    "ελληνικά.txt",
    "emoji-🦀.txt",
    "e\u0301-combining.txt",
    "\u00e9-composed.txt",
    "UPPER.txt",
    "upper.txt",
    "n" * 240,  # clients download to a temporary name of up to 255 bytes
    "a-b",
    "a b/inside a folder with spaces.txt",
    "a+b/c+d.txt",
    "Ünï/cødé/päth.txt",
    "deep/er/and/deep/er/still.txt",
    "x/y",
    "x-y",
    "x.y",
]


def content(name: str, number: int) -> bytes:
    """A small body of its own for each name; some are empty."""
    seed = hashlib.sha256(name.encode()).digest()
    return (seed * (1 + number % 97))[: 0 if number % 50 == 7 else None]


def fill(folder: pathlib.Path, count: int = 1000) -> dict[str, bytes]:
    """Writes `count` files with awkward names; one is a key of 1024 bytes below `tree/`. Returns their bytes by relative path."""
    names = list(FILE_NAMES)
    longest = "/".join(["L" * 203] * 5)
    assert len("tree/" + longest) == 1024
    names.append(longest)
    number = 0
    while len(names) < count:
        base = FILE_NAMES[number % len(FILE_NAMES)]
        if len(base.encode()) > 100:
            base = "long"
        names.append(f"dir {number % 7}+/sub_{number % 13}/{number:04d} {base.replace('/', '-')}")
        number += 1
    files = {}
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files[name] = content(name, index)
        path.write_bytes(files[name])
    assert len(files) == count
    return files


def tree(folder: pathlib.Path) -> dict[str, bytes]:
    """What a folder holds, by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
