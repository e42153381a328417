//! The known name that looks most like one that is not known.

/// The nearest of `known` by edits (insert, remove, replace, swap neighbours). A name in another section counts as near when its last
/// part is right.
pub(super) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or("").to_owned();
    known.into_iter().min_by_key(|candidate| {
        let whole = distance(name, candidate);
        // One more than the part alone, so that a slip within the right section wins over the same word elsewhere.
        let part = distance(&last(name), &last(candidate)) * 2 + 1;
        (whole.min(part), whole)
    })
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let replaced = above[j] + usize::from(a[i] != b[j]);
            let mut best = replaced.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_what_a_person_meant() {
        let known = ["server.listen", "server.request_timeout_secs", "admin.listen", "s3.region", "log.level"];
        for (typed, meant) in [
            ("server.lisen", "server.listen"),
            ("admin.litsen", "admin.listen"),
            ("server.request_timeout", "server.request_timeout_secs"),
            ("region", "s3.region"),
            ("logs.level", "log.level"),
            ("server.region", "s3.region"),
            ("srever.listen", "server.listen"),
        ] {
            assert_eq!(nearest(typed, known), Some(meant), "{typed}");
        }
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
    }
}
