//! Patterns of CONFIG GET and GRAMME.CONFLICTS: `*`, `?` and plain bytes.

/// Whether a pattern matches all of a text.
pub(super) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => {
                retry = Some((rest, text));
                pattern = rest;
            }
            ([p, more @ ..], [t, left @ ..]) if *p == b'?' || p == t => (pattern, text) = (more, left),
            ([], []) => return true,
            _ => match retry {
                // The last star takes one byte more.
                Some((rest, [_, left @ ..])) => {
                    retry = Some((rest, left));
                    (pattern, text) = (rest, left);
                }
                _ => return false,
            },
        }
    }
}

/// What every text that a pattern matches begins with.
pub(super) fn prefix(pattern: &[u8]) -> &[u8] {
    let end = pattern.iter().position(|byte| matches!(byte, b'*' | b'?'));
    &pattern[..end.unwrap_or(pattern.len())]
}

#[cfg(test)]
mod tests {
    use super::{matches, prefix};

    #[test]
    fn patterns_match_as_globs() {
        for (pattern, text, expected) in [
            ("save", "save", true),
            ("save", "saved", false),
            ("*", "maxmemory", true),
            ("max*", "maxmemory-policy", true),
            ("max*y", "maxmemory-policy", true),
            ("max*x", "maxmemory-policy", false),
            ("*-*-*", "replica-read-only", true),
            ("?ave", "save", true),
            ("", "save", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        for (pattern, expected) in [("cart:*", "cart:"), ("a?c*", "a"), ("plain", "plain"), ("*", "")] {
            assert_eq!(prefix(pattern.as_bytes()), expected.as_bytes(), "{pattern}");
        }
    }
}
