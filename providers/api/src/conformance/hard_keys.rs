//! The keys that are hard for everyone.

use crate::MAX_KEY_BYTES;

/// Keys that providers take for something else: paths, patterns, escapes, text.
#[rustfmt::skip]
const SHORT: &[&str] = &[
    // paths
    "a", "a/", "a/b", "a//b", "a//", "a///", "a/b/", "a/b/c", "a-b", "a.b", "a0", "/", "//", "///", "/a", "/a/", "//a", ".",
    "..", "./", "../", "./a", "../a", "../../a", "../../../../../../etc/passwd", "/etc/passwd", "/.", "/..", "a/.", "a/..",
    "a/./b", "a/../b", "a/../../b", "...", "..../", ".hidden", "a/.hidden", "~", "~root", "a~", "-", "--", "-rf",
    // white space, quotes and what shells and globs read
    " ", "  ", " a", "a ", "a b", "a/ /b", "\t", "a\tb", "*", "?", "[a]", "{a,b}", "a*b", "$HOME", "`id`", "a;b", "a|b",
    "a&b", "<a>", "'", "\"", "a'b\"c", "!", "#", "a#b", "a?b=c", "@", "^", ",", "=", "a=b",
    // escapes of others
    "%", "%%", "%2F", "%2f", "a%2Fb", "%2E", "%2E%2E", "%25", "%252F", "%00", "%zz", "+", "a+b", "a%20b", "&amp;", "\\",
    "a\\b", "\\\\", "C:", "C:\\a", "c:a", "a:b", ":", "=2F", "\\x2f", "_", "__", "_a", "a_", "$", "$$", "0x2f",
    // names that other systems reserve
    "con", "NUL", "aux.txt", "a.", "a..", "a./b", "lost+found", ".git", ".Trash", ".tmp", "tmp", ".snapshot", ".nfs0001",
    ".DS_Store", "Thumbs.db", "a.tmp", "a.lock", "index.html", ".sluice", ".sluice/", ".sluice/a", "sluice", ".sluice.tmp",
    "a/.sluice/b",
    // letters
    "A", "a/B", "A/b", "ab", "AB", "Ab", "aB", "é", "e\u{301}", "É", "ß", "ss", "ẞ", "İ", "i", "I", "ı", "ｆｕｌｌ", "日本語/キー",
    "\u{ac00}", "\u{1100}\u{1161}", "Å", "A\u{30a}", "\u{212b}", "🦀", "🦀/🦀", "👩\u{200d}💻", "\u{200b}", "a\u{200b}",
    "\u{202e}abc", "\u{feff}a", "\u{a0}", "\u{7f}", "\u{80}", "\u{2028}", "\u{e000}", "\u{fffd}", "\u{ffff}", "\u{10000}",
    "\u{10ffff}",
    // control characters
    "\u{0}", "a\u{0}", "a\u{0}b", "\u{1}", "\u{1b}[31m", "\n", "a\nb", "\r\n", "\u{8}", "\u{1f}",
];

/// All of them.
pub(super) fn hard_keys() -> Vec<String> {
    let mut keys: Vec<String> = SHORT.iter().copied().map(String::from).collect();
    for length in [254, 255, 256, 257, 300, 511, 512, 513, 1023, MAX_KEY_BYTES] {
        keys.push("s".repeat(length));
    }
    // Long segments that differ only at their ends, or not within the length of a file name.
    keys.push(format!("{}x", "s".repeat(255)));
    keys.push(format!("{}y", "s".repeat(255)));
    for length in [255, 256, 300, 500] {
        keys.push(format!("long/{}/x", "d".repeat(length)));
        keys.push(format!("long/{}/", "d".repeat(length)));
        keys.push(format!("long/{}", "d".repeat(length)));
    }
    keys.push("é".repeat(127));
    keys.push("é".repeat(128));
    keys.push("é".repeat(MAX_KEY_BYTES / 2));
    keys.push("日".repeat(341));
    keys.push("🦀".repeat(256));
    keys.push("%".repeat(200));
    keys.push("%".repeat(MAX_KEY_BYTES));
    keys.push("/".repeat(MAX_KEY_BYTES));
    keys.push("a/".repeat(MAX_KEY_BYTES / 2));
    keys.push(format!("{}aa", "a/".repeat(MAX_KEY_BYTES / 2 - 1)));
    keys.push("../".repeat(341));
    keys.push(".".repeat(MAX_KEY_BYTES));
    keys.push("\u{1}".repeat(MAX_KEY_BYTES));
    keys
}
