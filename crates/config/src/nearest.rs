//! The known name nearest to an unknown one.

/// The candidate at the smallest edit distance from `name`, letter case aside; the first one of equals.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let wanted = name.to_ascii_lowercase();
    candidates
        .into_iter()
        .min_by_key(|candidate| distance(&wanted, &candidate.to_ascii_lowercase()))
}

/// Levenshtein distance: insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        let mut left = i + 1;
        next.push(left);
        for (to, above) in b.iter().zip(row.windows(2)) {
            let &[diagonal, up] = above else { continue };
            left = (up + 1).min(left + 1).min(diagonal + usize::from(from != *to));
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::{distance, nearest};

    #[test]
    fn distance_counts_single_letter_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("kitten", "sitting", 3),
            ("listen", "listne", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} to {b}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_whatever_its_case() {
        let known = ["EDGE_LISTEN", "EDGE_ADMIN_LISTEN", "AGENT_MAX_STREAMS"];
        assert_eq!(nearest("edge_lisen", known), Some("EDGE_LISTEN"));
        assert_eq!(nearest("EDGE_ADMN_LISTEN", known), Some("EDGE_ADMIN_LISTEN"));
        assert_eq!(nearest("x", []), None);
    }
}
