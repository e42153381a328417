//! `docs/CONFIG.md`, from the comments of the settings themselves.

use std::fmt::Write as _;

use super::layers::{environment_name, known_keys};
use super::secrets;

/// The sections in the order of a reader, and the source their comments are in.
const SECTIONS: [(&str, &str); 14] = [
    ("server", include_str!("../server/settings.rs")),
    ("admin", include_str!("../admin/settings.rs")),
    ("limits", include_str!("../limits/settings.rs")),
    ("s3", include_str!("../s3/settings.rs")),
    ("default_mount", include_str!("default_mount.rs")),
    ("mounts", include_str!("../mounts/settings.rs")),
    ("meta", include_str!("../meta/settings.rs")),
    ("tokens", include_str!("../tokens/settings.rs")),
    ("encryption", include_str!("../encryption/settings.rs")),
    ("uploads", include_str!("../uploads/settings.rs")),
    ("lifecycle", include_str!("../lifecycle/settings.rs")),
    ("handles", include_str!("../handles/settings.rs")),
    ("transfer", include_str!("../transfer/settings.rs")),
    ("log", include_str!("../telemetry/settings.rs")),
];

const INTRODUCTION: &str = "\
# Configuration

This page is generated (`sluice config reference`) from the comments of the settings themselves.

A value comes from, each one over those before it: the default, the file, the environment, the flags.

- **The file** is TOML: the one that `--config` or `SLUICE_CONFIG` names, else `$XDG_CONFIG_HOME/sluice/sluice.toml`
  (`~/.config/sluice/sluice.toml`), else `/etc/sluice/sluice.toml`, else none. `${NAME}` in a string is that variable of the
  environment; `$${` is a plain `${`.
- **The environment** has a name for each key. Lists are separated by commas.
- **Flags**: `--data-dir`, `--listen`, `--admin-listen`, and `--set SECTION.KEY=VALUE` for every key.

A key that does not exist is a start-up error which names the nearest one that does. `sluice serve --check` prints the
configuration that would be used, with secrets hidden, and starts nothing.
";

/// The page.
#[must_use]
pub fn reference() -> String {
    let known = known_keys().unwrap_or_default();
    let mut page = INTRODUCTION.to_owned();
    let mut section = |name: &str, source: &str, structure: &str| {
        let comments = comments(source, structure);
        let title = if name.is_empty() { "Top level".to_owned() } else { format!("[{name}]") };
        let _ = writeln!(page, "\n## {title}\n");
        if !name.is_empty() {
            let _ = writeln!(page, "{}\n", comments.about);
        }
        page.push_str("| key | default | environment | meaning |\n|---|---|---|---|\n");
        for (key, comment) in &comments.fields {
            let path = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
            let Some(default) = known.get(&path) else { continue };
            let _ = writeln!(page, "| `{key}` | `{default}` | `{}` | {comment} |", environment_name(&path));
        }
    };
    section("", include_str!("settings.rs"), "Config");
    for (name, source) in SECTIONS {
        section(name, source, if name == "default_mount" { "DefaultMountSettings" } else { "Settings" });
    }
    page.push_str("\n## Secrets\n\nFrom the environment only, and never printed.\n\n| environment | meaning |\n|---|---|\n");
    for (name, meaning) in secrets::NAMES {
        let _ = writeln!(page, "| `{name}` | {meaning} |");
    }
    page
}

struct Comments {
    about: String,
    fields: Vec<(String, String)>,
}

/// The comments of a structure and of its fields, as they stand in its source.
fn comments(source: &str, structure: &str) -> Comments {
    let opening = format!("pub struct {structure} {{");
    let mut comments = Comments { about: String::new(), fields: Vec::new() };
    let (mut comment, mut inside) = (String::new(), false);
    for line in source.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            if !comment.is_empty() {
                comment.push(' ');
            }
            comment.push_str(text.trim());
        } else if line == opening {
            comments.about = std::mem::take(&mut comment);
            inside = true;
        } else if inside && line == "}" {
            break;
        } else if inside && let Some((name, _type)) = line.strip_prefix("pub ").and_then(|line| line.split_once(':')) {
            comments.fields.push((name.to_owned(), std::mem::take(&mut comment)));
        } else if !line.starts_with("#[") {
            comment.clear();
        }
    }
    comments
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

    use super::*;

    #[test]
    fn every_key_is_on_the_page_with_a_meaning() {
        let page = reference();
        for key in known_keys().unwrap().keys() {
            let name = environment_name(key);
            let row = page.lines().find(|line| line.contains(&format!("| `{name}` |")));
            let meaning = row.unwrap_or_else(|| panic!("{key} is not on the page")).rsplit('|').nth(1).unwrap().trim();
            assert!(meaning.len() > 10, "{key}: {meaning}");
        }
    }

    #[test]
    fn the_page_in_docs_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "docs/CONFIG.md is stale: `sluice config reference > docs/CONFIG.md`");
    }
}
