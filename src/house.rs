//! The house test: what `docs/ARCHITECTURE.md` says of rooms, floors and fences, checked on the source text.
//!
//! A room imports from lower floors only; a fenced crate is named in its rooms only; no file is larger than a person reads in
//! one sitting; a provider does not know the gateway. A rule that no machine checks goes stale.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The rooms, lowest first. `error` may be used by its own floor too.
const FLOORS: &[&[&str]] = &[
    &["error", "runtime", "telemetry"],
    &["meta", "transfer", "handles", "limits"],
    &["mounts", "tokens", "usage", "cache"],
    &["namespaces", "encryption", "plugins"],
    &["uploads"],
    &["objects"],
    &["lifecycle"],
    &["s3", "admin"],
    &["server", "config"],
    &["app"],
    &["main"],
];

/// Crates (as they are named in code) and the only rooms that may name them.
const FENCES: &[(&[&str], &[&str])] = &[
    (&["sqlx"], &["meta"]),
    (&["md5", "sha1", "sha2", "crc_fast", "sluice_md5_lanes"], &["transfer"]),
    (&["moka"], &["tokens", "encryption", "cache"]),
    (&["aes_gcm"], &["tokens", "encryption"]),
    (&["jsonwebtoken"], &["tokens"]),
    (&["p256"], &["s3"]),
    (&["ring"], &["tokens", "s3", "server", "encryption"]),
    (&["hyper_rustls"], &["encryption", "tokens"]),
    (&["s3s"], &["s3"]),
    (&["prometheus_client", "opentelemetry", "opentelemetry_otlp", "opentelemetry_sdk"], &["telemetry"]),
    (&["hyper", "hyper_util"], &["server", "admin", "s3", "encryption", "tokens"]),
    (&["clap", "toml"], &["config", "main"]),
    (&["governor"], &["limits"]),
    (&["rustls"], &["server", "encryption", "tokens", "runtime", "telemetry"]),
    (&["rustls_native_certs"], &["runtime"]),
    (&["opendal"], &[]),
    (&["wasmtime"], &[]),
    (&["reqwest"], &["telemetry"]),
    (&["tokio_rustls", "ppp"], &["server"]),
];

/// The most lines of a file.
const MAX_LINES: usize = 700;

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

// === the source text ===

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    /// `::`
    Sep,
    Sign(char),
}

/// Words and signs with their lines; comments, strings, characters and lifetimes left out.
fn tokens(text: &str) -> Vec<(Token<'_>, usize)> {
    let (bytes, mut out, mut at, mut line) = (text.as_bytes(), Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = match bytes[at] {
            b'/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            b'/' if rest.starts_with("/*") => block_comment(rest),
            b'"' => string(rest, 1),
            b'\'' => character_or_lifetime(rest),
            b':' if rest.starts_with("::") => {
                out.push((Token::Sep, line));
                2
            }
            c if c.is_ascii_alphanumeric() || c == b'_' || !c.is_ascii() => {
                let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len()).max(1);
                match literal_prefix(&rest[..end], &rest[end..]) {
                    Some(length) => end + length,
                    None => {
                        out.push((Token::Word(&rest[..end]), line));
                        end
                    }
                }
            }
            c => {
                if !c.is_ascii_whitespace() {
                    out.push((Token::Sign(char::from(c)), line));
                }
                1
            }
        };
        // A sign outside ASCII in code does not compile; skipping whole characters keeps the slices sound all the same.
        let end = (at + length..=text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
        line += text[at..end].matches('\n').count();
        at = end;
    }
    out
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        match rest.as_bytes().get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The length of a string whose first `at` bytes are its opening.
fn string(rest: &str, mut at: usize) -> usize {
    while let Some(c) = rest.as_bytes().get(at) {
        match c {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

fn character_or_lifetime(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let after = escaped + c.len_utf8();
            after + rest[after..].find('\'').map_or(0, |end| end + 1)
        }
        (_, Some((end, '\''))) => end + 1,
        _ => 1,
    }
}

/// The length of the string that a word such as `r`, `b` or `br` begins; `None` when it begins none.
fn literal_prefix(word: &str, rest: &str) -> Option<usize> {
    match word {
        "b" | "c" if rest.starts_with('"') => Some(string(rest, 1)),
        "b" if rest.starts_with('\'') => Some(character_or_lifetime(rest)),
        "r" | "br" | "cr" => {
            let hashes = rest.len() - rest.trim_start_matches('#').len();
            let body = rest[hashes..].strip_prefix('"')?;
            let close = format!("\"{}", "#".repeat(hashes));
            Some(hashes + 1 + body.find(&close).map_or(body.len(), |end| end + close.len()))
        }
        _ => None,
    }
}

// === paths ===

/// `#[cfg(test)]`
const TEST_ONLY: [Token<'_>; 7] = [
    Token::Sign('#'),
    Token::Sign('['),
    Token::Word("cfg"),
    Token::Sign('('),
    Token::Word("test"),
    Token::Sign(')'),
    Token::Sign(']'),
];

/// A path that the text names.
#[derive(Debug)]
struct Named<'a> {
    segments: Vec<&'a str>,
    /// The module it stands in.
    module: Vec<String>,
    test: bool,
    line: usize,
}

/// What a file names.
#[derive(Debug, Default)]
struct Names<'a> {
    paths: Vec<Named<'a>>,
    /// Modules that are declared for tests only and live in files of their own.
    test_files: Vec<Vec<String>>,
    /// Lines with a `#[path]`, which would hide where a file stands.
    displaced: Vec<usize>,
}

fn names<'a>(text: &'a str, module: &[String], test: bool) -> Names<'a> {
    let tokens = tokens(text);
    let sign = |at: usize, c| tokens.get(at).is_some_and(|t: &(Token<'_>, _)| t.0 == Token::Sign(c));
    let word = |at: usize| match tokens.get(at) {
        Some((Token::Word(word), _)) => Some(*word),
        _ => None,
    };
    let mut found = Names::default();
    // For each open brace: whether it is a module, and whether it is for tests only.
    let (mut scopes, mut module, mut test_next, mut at) = (Vec::new(), module.to_vec(), false, 0);
    while at < tokens.len() {
        let in_test = scopes.last().map_or(test, |(_, test)| *test);
        match tokens[at].0 {
            Token::Sign('#') if sign(at + 1, '[') && word(at + 2) == Some("path") => {
                found.displaced.push(tokens[at].1);
                at += 3;
            }
            Token::Sign('#') if tokens[at..].iter().map(|t| t.0).take(TEST_ONLY.len()).eq(TEST_ONLY) => {
                test_next = true;
                at += TEST_ONLY.len();
            }
            Token::Sign('{') => {
                scopes.push((false, in_test || test_next));
                test_next = false;
                at += 1;
            }
            Token::Sign('}') => {
                if let Some((true, _)) = scopes.pop() {
                    module.pop();
                }
                at += 1;
            }
            Token::Sign(';') => {
                test_next = false;
                at += 1;
            }
            Token::Word("mod") if word(at + 1).is_some() => {
                let name = word(at + 1).unwrap_or_default().to_owned();
                if sign(at + 2, '{') {
                    module.push(name);
                    scopes.push((true, in_test || test_next));
                    test_next = false;
                    at += 3;
                } else {
                    if test_next {
                        found.test_files.push([&module[..], &[name]].concat());
                    }
                    at += 2;
                }
            }
            Token::Word(first) => {
                let import = matches!(first, "use") || (first == "crate" && at > 0 && word(at - 1) == Some("extern"));
                let line = tokens[at].1;
                let start = if import { at + 1 + usize::from(tokens.get(at + 1).is_some_and(|t| t.0 == Token::Sep)) } else { at };
                let mut paths = Vec::new();
                at = tree(&tokens, start, &[], &mut paths).max(at + 1);
                paths.retain(|path| import || path.len() > 1);
                found.paths.extend(paths.into_iter().map(|segments| Named {
                    segments,
                    module: module.clone(),
                    test: in_test || test_next,
                    line,
                }));
            }
            Token::Sep | Token::Sign(_) => at += 1,
        }
    }
    found
}

/// Reads a path with its groups, as `use` writes them; answers where it ends.
fn tree<'a>(tokens: &[(Token<'a>, usize)], mut at: usize, prefix: &[&'a str], out: &mut Vec<Vec<&'a str>>) -> usize {
    let token = |at: usize| tokens.get(at).map(|t| t.0);
    let mut own = prefix.to_owned();
    loop {
        match token(at) {
            Some(Token::Word(word)) => {
                own.push(word);
                at += 1;
                if token(at) != Some(Token::Sep) {
                    break;
                }
                at += 1;
            }
            Some(Token::Sign('*')) => {
                own.push("*");
                at += 1;
                break;
            }
            // A group of a path; a brace that no `::` stands before belongs to somebody else.
            Some(Token::Sign('{'))
                if at > 0 && (token(at - 1) == Some(Token::Sep) || token(at - 1) == Some(Token::Word("use"))) =>
            {
                at += 1;
                while !matches!(token(at), None | Some(Token::Sign('}'))) {
                    let next = tree(tokens, at, &own, out).max(at + 1);
                    at = (next..tokens.len()).find(|n| matches!(token(*n), Some(Token::Sign(',' | '}')))).unwrap_or(tokens.len());
                    at += usize::from(token(at) == Some(Token::Sign(',')));
                }
                return at + 1;
            }
            _ => break,
        }
    }
    if own.len() > prefix.len() {
        out.push(own);
    }
    at
}

/// A path from the root of the crate; `None` when it begins elsewhere.
fn absolute<'a>(named: &'a Named<'_>, gateway: &str) -> Option<Vec<&'a str>> {
    let mut base: Vec<&str> = match *named.segments.first()? {
        "self" | "super" => named.module.iter().map(String::as_str).collect(),
        first if first == gateway => Vec::new(),
        _ => return None,
    };
    for segment in &named.segments {
        match *segment {
            "super" => drop(base.pop()),
            "self" | "crate" => {}
            first if first == gateway && base.is_empty() => {}
            other => base.push(other),
        }
    }
    Some(base)
}

// === the rules ===

/// A file: its path from the root of the workspace, with `/`, and its text.
type Source = (String, String);

/// The module that a file of `src/` is.
fn module_of(path: &str) -> Vec<String> {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

/// Everything that is wrong with these files.
fn violations(sources: &[Source]) -> Vec<String> {
    let mut wrong = Vec::new();
    let of_gateway = |path: &str| path.starts_with("src/") && !["src/lib.rs", "src/house.rs"].contains(&path);
    let test_files: BTreeSet<Vec<String>> = sources
        .iter()
        .filter(|(path, _)| of_gateway(path))
        .flat_map(|(path, text)| names(text, &module_of(path), false).test_files)
        .collect();
    for (path, text) in sources {
        if path.ends_with("Cargo.toml") {
            wrong.extend(manifest(path, text));
            continue;
        }
        let lines = text.lines().count();
        if lines > MAX_LINES {
            wrong.push(format!("{path}: {lines} lines, at most {MAX_LINES}"));
        }
        if path.starts_with("providers/") {
            wrong.extend(provider(path, text));
        } else if of_gateway(path) {
            let module = module_of(path);
            let test = (1..=module.len()).any(|n| test_files.contains(&module[..n]));
            wrong.extend(room(path, text, &module, test));
        }
    }
    wrong
}

fn room(path: &str, text: &str, module: &[String], test: bool) -> Vec<String> {
    let room = module[0].as_str();
    let Some(own) = floor(room) else { return vec![format!("{path}: room {room} has no floor")] };
    let gateway = if room == "main" { "sluice" } else { "crate" };
    let names = names(text, module, test);
    let mut wrong: Vec<String> =
        names.displaced.iter().map(|line| format!("{path}:{line}: #[path] hides a file's place")).collect();
    for named in &names.paths {
        let mut report = |what: String| wrong.push(format!("{path}:{}: {what}", named.line));
        if let Some(rooms) = fence(named.segments[0]).filter(|rooms| !rooms.contains(&room)) {
            report(format!("{room} names {}, which only {} may", named.segments[0], rooms.join(", ")));
        }
        let Some(target) = absolute(named, gateway) else { continue };
        let Some(to) = target.first().filter(|to| **to != "*") else {
            report("imports the root, which hides what it uses".to_owned());
            continue;
        };
        let Some(floor) = floor(to).filter(|_| *to != room && *to != "error") else { continue };
        // The configuration is composed of every room's own settings.
        let settings = room == "config" && target.get(1).map_or_else(|| only_settings(&names, to), |part| is_settings(part));
        let below = floor < own || floor == own && named.test;
        if !below && !settings {
            report(format!("{room} (floor {own}) imports {to} (floor {floor}): {}", named.segments.join("::")));
        }
    }
    wrong
}

fn is_settings(name: &str) -> bool {
    ["Settings", "settings"].contains(&name)
}

/// Whether a file that imports a room by its name goes on to use nothing but its settings.
fn only_settings(names: &Names<'_>, room: &str) -> bool {
    let mut uses = names.paths.iter().filter(|named| named.segments[0] == room).peekable();
    uses.peek().is_some() && uses.all(|named| named.segments.get(1).is_some_and(|part| is_settings(part)))
}

fn fence(krate: &str) -> Option<&'static [&'static str]> {
    FENCES.iter().find(|(crates, _)| crates.contains(&krate)).map(|(_, rooms)| *rooms)
}

fn provider(path: &str, text: &str) -> Vec<String> {
    let wrong = |named: &Named<'_>| match named.segments[0] {
        "sluice" => Some(format!("{path}:{}: a provider names the gateway", named.line)),
        "opendal" if !path.starts_with("providers/opendal/") => {
            Some(format!("{path}:{}: names opendal, which only providers/opendal may", named.line))
        }
        "wasmtime" if !path.starts_with("providers/wasm/") => {
            Some(format!("{path}:{}: names wasmtime, which only providers/wasm may", named.line))
        }
        _ => None,
    };
    names(text, &[], false).paths.iter().filter_map(wrong).collect()
}

fn manifest(path: &str, text: &str) -> Vec<String> {
    let names_it = |line: &str| {
        let key = line.split(['=', '.']).next().unwrap_or_default().trim().trim_matches('"');
        let section = line.trim().trim_matches(['[', ']']);
        key == "sluice" || section.ends_with("dependencies.sluice") || line.replace(' ', "").contains("package=\"sluice\"")
    };
    let lines = text.lines().enumerate().filter(|(_, line)| names_it(line));
    lines.map(|(n, _)| format!("{path}:{}: a provider depends on the gateway", n + 1)).collect()
}

/// Every file of `src/` and `providers/` that a rule looks at.
fn sources(root: &Path) -> std::io::Result<Vec<Source>> {
    let (mut folders, mut found) = (vec![root.join("src"), root.join("providers")], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") || path.file_name().is_some_and(|n| n == "Cargo.toml") {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                found.push((name, fs::read_to_string(&path)?));
            }
        }
    }
    Ok(found)
}

// === the tests ===

#[test]
fn the_house_is_in_order() -> std::io::Result<()> {
    let sources = sources(Path::new(env!("CARGO_MANIFEST_DIR")))?;
    assert!(sources.iter().any(|(path, _)| path == "src/transfer/mod.rs"), "the sources were not found");
    let wrong = violations(&sources);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

/// What is wrong with one file.
fn judge(path: &str, text: &str) -> Vec<String> {
    violations(&[(path.to_owned(), text.to_owned())])
}

fn fires(path: &str, text: &str, what: &str) {
    let wrong = judge(path, text);
    assert!(wrong.len() == 1 && wrong[0].contains(what), "{text}\nexpected {what:?}, got {wrong:?}");
}

fn holds(path: &str, text: &str) {
    let wrong = judge(path, text);
    assert!(wrong.is_empty(), "{text}\n{wrong:?}");
}

#[test]
fn imports_go_down() {
    let path = "src/uploads/create.rs";
    holds(path, "use crate::meta::MetaStore; use crate::{error::Result, transfer::{Algorithm, self}}; use super::Uploads;");
    holds(path, "pub(crate) fn f(x: crate::uploads::X) -> crate::error::Result<()> { crate::telemetry::g::<crate::meta::M>() }");
    fires(path, "use crate::objects::Objects;", "uploads (floor 4) imports objects (floor 5)");
    fires(path, "use crate::{meta, s3::Front};", "imports s3 (floor 7)");
    fires(path, "use crate::{meta::{A, B as C}, error::Result as R, objects as o};", "imports objects");
    fires(path, "fn f() { let x = vec![crate::objects::attribute::TAGS]; }", "imports objects");
    fires(path, "pub use crate::objects::*;", "imports objects");
    fires("src/mounts/mod.rs", "use crate::tokens::Tokens;", "mounts (floor 2) imports tokens (floor 2)");
    fires("src/telemetry/mod.rs", "use crate::runtime::X;", "telemetry (floor 0) imports runtime (floor 0)");
    fires("src/error.rs", "use crate::telemetry::RequestId;", "error (floor 0) imports telemetry (floor 0)");
    holds("src/telemetry/mod.rs", "use crate::error::Result;");
    fires("src/server/mod.rs", "\n\nuse crate::app;", "src/server/mod.rs:3:");
}

#[test]
fn super_is_no_way_out() {
    fires("src/meta/mod.rs", "use super::s3::Front;", "meta (floor 1) imports s3");
    fires("src/meta/sqlite.rs", "use super::super::s3::Front;", "imports s3");
    fires("src/meta/sqlite.rs", "use super::{super::s3, MetaStore};", "imports s3");
    fires("src/meta/a/b.rs", "use self::super::super::super::s3::Front;", "imports s3");
    fires("src/meta/sqlite.rs", "mod rows { fn f() {} use super::super::super::s3; }", "imports s3");
    holds("src/meta/sqlite.rs", "mod rows { use super::super::s3; } mod s3 { use super::super::MetaStore; }");
    holds("src/meta/mod.rs", "mod s3 {} use self::s3::X;");
}

#[test]
fn the_root_is_not_imported() {
    fires("src/meta/mod.rs", "use crate as everything;", "imports the root");
    fires("src/meta/mod.rs", "use crate::*;", "imports the root");
    fires("src/meta/mod.rs", "use super::*;", "imports the root");
    fires("src/meta/mod.rs", "use crate::{self as all};", "imports the root");
    holds("src/meta/sqlite.rs", "use super::*;");
}

#[test]
fn tests_may_look_sideways_but_not_up() {
    let path = "src/mounts/table.rs";
    holds(path, "#[cfg(test)]\nmod tests { use super::*; use crate::tokens::Tokens; }");
    holds(path, "#[cfg(test)] use crate::tokens::Tokens;");
    fires(path, "#[cfg(test)] mod tests { use crate::objects::Objects; }", "imports objects");
    fires(path, "#[cfg(test)] mod tests { } use crate::tokens::Tokens;", "imports tokens");
    fires(path, "#[cfg(test)] use crate::meta::X; use crate::tokens::Tokens;", "imports tokens");
    let door = ("src/mounts/mod.rs".to_owned(), "#[cfg(test)] mod tests;".to_owned());
    let file = ("src/mounts/tests.rs".to_owned(), "use crate::tokens::Tokens;".to_owned());
    assert_eq!(violations(&[door, file.clone()]), [""; 0]);
    assert_eq!(violations(&[file]).len(), 1);
}

#[test]
fn the_configuration_is_composed_of_settings() {
    holds("src/config/mod.rs", "use crate::s3; pub struct S { server: crate::server::Settings }");
    holds("src/config/mod.rs", "use crate::server::Settings as Server; use crate::handles;");
    holds("src/config/mod.rs", "use crate::{s3, server}; struct S { server: server::Settings }");
    fires("src/config/mod.rs", "use crate::server::Server;", "config (floor 8) imports server");
    fires("src/config/mod.rs", "use crate::server; struct S { a: server::Settings, b: server::Server }", "imports server");
    fires("src/config/mod.rs", "use crate::server as s; struct S { a: s::Settings, b: s::Server }", "imports server");
    fires("src/s3/mod.rs", "use crate::server::Settings;", "imports server");
}

#[test]
fn fences_hold() {
    for (crates, rooms) in FENCES {
        for krate in *crates {
            let outside = if rooms.contains(&"s3") { "objects" } else { "s3" };
            for text in [
                format!("use {krate}::X;"),
                format!("fn f() {{ {krate}::g(); }}"),
                format!("use ::{krate};"),
                format!("extern crate {krate};"),
            ] {
                fires(&format!("src/{outside}/mod.rs"), &text, &format!("names {krate}"));
                for room in *rooms {
                    holds(&format!("src/{room}/mod.rs"), &text);
                }
            }
        }
    }
    fires("src/uploads/mod.rs", "use std::{io}; use {std::fmt, sqlx::Row};", "names sqlx");
    fires("src/uploads/mod.rs", "#[derive(sqlx::FromRow)] struct A;", "names sqlx");
    fires("src/uploads/mod.rs", "#[cfg(test)] mod tests { use md5::Md5; }", "names md5");
    holds("src/uploads/mod.rs", "struct D { md5: u8 } fn f(toml: u8) -> u8 { toml + d.md5 } use crate::transfer::md5::X;");
}

#[test]
fn words_in_comments_and_strings_do_not_count() {
    let text = r###"//! [`crate::s3::Front`]
        /* use crate::s3; /* sqlx::query */ use sqlx::A; */
        const A: &str = "use crate::s3; \" sqlx::x"; const B: &str = r#"" sqlx::x "#; const C: &[u8] = b"sqlx::x";
        const D: char = '"'; fn f<'a>(x: &'a str) -> char { '\'' } const E: &str = "ü sqlx::x"; const F: u8 = b'"';
    "###;
    holds("src/uploads/mod.rs", text);
    fires("src/uploads/mod.rs", &format!("{text}\nuse crate::s3;"), "src/uploads/mod.rs:6:");
}

#[test]
fn files_stay_readable() {
    holds("src/meta/sqlite.rs", &"//\n".repeat(MAX_LINES));
    fires("src/meta/sqlite.rs", &"//\n".repeat(MAX_LINES + 1), "701 lines");
    fires("providers/local/src/put.rs", &"//\n".repeat(MAX_LINES + 1), "701 lines");
}

#[test]
fn files_have_their_place() {
    fires("src/utils.rs", "", "room utils has no floor");
    fires("src/meta/mod.rs", "#[path = \"../s3/mod.rs\"] mod s3;", "#[path] hides");
}

#[test]
fn providers_do_not_know_the_gateway() {
    let path = "providers/local/src/lib.rs";
    fires(path, "use sluice::error::Error;", "names the gateway");
    fires(path, "fn f() { sluice::app::run() }", "names the gateway");
    fires(path, "use opendal::Operator;", "which only providers/opendal may");
    holds("providers/opendal/src/lib.rs", "use opendal::Operator;");
    fires(path, "use wasmtime::Engine;", "which only providers/wasm may");
    holds("providers/wasm/src/lib.rs", "use wasmtime::Engine;");
    holds(path, "use sluice_provider::Provider; fn f(sluice: u8) { use md5::Md5; }");
    let path = "providers/local/Cargo.toml";
    for line in [
        "sluice.workspace = true",
        "sluice = { path = \"../..\" }",
        "[dependencies.sluice]",
        "gateway = { package = \"sluice\" }",
    ] {
        fires(path, line, "depends on the gateway");
    }
    holds(path, "name = \"sluice-provider-local\"\nsluice-provider.workspace = true");
}
