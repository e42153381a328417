//! Text with wildcards and policy variables (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>).

/// Where a variable finds its value: by its key in lower case, `None` when the request has none.
pub(super) type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

/// What a text must look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
    /// Whether upper and lower case are the same.
    fold: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Char(char),
    /// `?`
    One,
    /// `*`
    Any,
    /// `${key}` or `${key, 'default'}`
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// How a text is read as a pattern.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reading {
    /// `*` and `?` are wildcards.
    pub(super) wildcards: bool,
    /// `${…}` is a variable. Only since version 2012-10-17 of the language.
    pub(super) variables: bool,
    /// Upper and lower case are the same.
    pub(super) fold: bool,
}

impl Pattern {
    /// Reads a text; `None` when a variable has no end or no name.
    pub(super) fn read(text: &str, reading: Reading) -> Option<Self> {
        let mut pieces = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            if let Some(after) = rest.strip_prefix("${").filter(|_| reading.variables) {
                let (name, after) = after.split_once('}')?;
                pieces.push(variable(name)?);
                rest = after;
                continue;
            }
            pieces.push(match c {
                '*' if reading.wildcards => Piece::Any,
                '?' if reading.wildcards => Piece::One,
                c => Piece::Char(if reading.fold { lower(c) } else { c }),
            });
            rest = &rest[c.len_utf8()..];
        }
        Some(Self { pieces, fold: reading.fold })
    }

    /// Whether a text looks like it. A variable without a value looks like nothing.
    pub(super) fn fits(&self, text: &str, variables: Variables<'_>) -> bool {
        if !self.is_variable() {
            return glob(&self.pieces, text, self.fold);
        }
        let mut known = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            match piece {
                Piece::Variable { key, default } => {
                    let Some(value) = variables(key).or_else(|| default.clone()) else { return false };
                    known.extend(value.chars().map(|c| Piece::Char(if self.fold { lower(c) } else { c })));
                }
                piece => known.push(piece.clone()),
            }
        }
        glob(&known, text, self.fold)
    }

    /// Whether it stands for one text only.
    pub(super) fn is_fixed(&self) -> bool {
        self.pieces.iter().all(|p| matches!(p, Piece::Char(_)))
    }

    /// The text before the first wildcard or variable.
    pub(super) fn head(&self) -> String {
        self.pieces.iter().map_while(|p| if let Piece::Char(c) = p { Some(*c) } else { None }).collect()
    }

    /// The keys of its variables.
    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|p| if let Piece::Variable { key, .. } = p { Some(key.as_str()) } else { None })
    }

    fn is_variable(&self) -> bool {
        self.keys().next().is_some()
    }
}

fn variable(text: &str) -> Option<Piece> {
    match text {
        // How a wildcard or a dollar sign is written for itself.
        "*" => return Some(Piece::Char('*')),
        "?" => return Some(Piece::Char('?')),
        "$" => return Some(Piece::Char('$')),
        _ => {}
    }
    let (key, default) = match text.split_once(',') {
        None => (text, None),
        Some((key, default)) => (key, Some(default.trim().strip_prefix('\'')?.strip_suffix('\'')?.to_owned())),
    };
    let key = key.trim().to_ascii_lowercase();
    key.contains(':').then_some(Piece::Variable { key, default })
}

fn lower(c: char) -> char {
    let mut lowered = c.to_lowercase();
    match (lowered.next(), lowered.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// Goes back to the last `*` only: the time is the product of the two lengths at worst.
fn glob(pieces: &[Piece], text: &str, fold: bool) -> bool {
    let (mut at, mut rest) = (0, text);
    let mut star: Option<(usize, &str)> = None;
    loop {
        match (pieces.get(at), rest.chars().next()) {
            (Some(Piece::Any), _) => {
                at += 1;
                star = Some((at, rest));
                continue;
            }
            (None, None) => return true,
            (Some(Piece::One), Some(c)) => {
                at += 1;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            (Some(Piece::Char(wanted)), Some(c)) if *wanted == if fold { lower(c) } else { c } => {
                at += 1;
                rest = &rest[c.len_utf8()..];
                continue;
            }
            _ => {}
        }
        // Let the last `*` take one character more.
        let Some((after, from)) = star else { return false };
        let Some(c) = from.chars().next() else { return false };
        rest = &from[c.len_utf8()..];
        at = after;
        star = Some((after, rest));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    const ALL: Reading = Reading { wildcards: true, variables: true, fold: false };

    fn fits(pattern: &str, text: &str) -> bool {
        let variables = |key: &str| match key {
            "aws:username" => Some("a*b".to_owned()),
            _ => None,
        };
        Pattern::read(pattern, ALL).unwrap().fits(text, &variables)
    }

    #[test]
    fn wildcards_and_variables() {
        for (pattern, text, want) in [
            ("", "", true),
            ("*", "", true),
            ("*", "a/b", true),
            ("a*b*c", "a/b/xc", true),
            ("a*b*c", "a/b/x", false),
            ("a?c", "aéc", true),
            ("a?c", "ac", false),
            ("**a", "bca", true),
            ("*aab", "aaaab", true),
            ("x${aws:username}y", "xa*by", true),
            ("x${aws:username}y", "xaby", false),
            ("x${aws:username}y", "xaaby", false),
            ("${AWS:UserName}", "a*b", true),
            ("${aws:none}", "", false),
            ("${aws:none}*", "x", false),
            ("${aws:none, 'd'}/*", "d/x", true),
            ("${*}${?}${$}", "*?$", true),
            ("${*}", "x", false),
            ("$x{", "$x{", true),
        ] {
            assert_eq!(fits(pattern, text), want, "{pattern} {text}");
        }
        for bad in ["${", "${}", "${x}", "${aws:x", "${aws:x, d}"] {
            assert_eq!(Pattern::read(bad, ALL), None, "{bad}");
        }
    }

    #[test]
    fn before_2012_a_variable_is_text() {
        let old = Pattern::read("${aws:username}", Reading { variables: false, ..ALL }).unwrap();
        assert!(old.fits("${aws:username}", &|_| Some("x".into())) && old.is_fixed());
    }

    #[test]
    fn a_long_text_against_many_stars_ends() {
        let pattern = "*a".repeat(2000) + "b";
        assert!(!fits(&pattern, &"a".repeat(1024)));
    }

    #[test]
    fn case_may_not_matter() {
        let pattern = Pattern::read("S3:get*", Reading { fold: true, ..ALL }).unwrap();
        assert!(pattern.fits("s3:GetObject", &|_| None) && !pattern.fits("s3:PutObject", &|_| None));
    }
}
