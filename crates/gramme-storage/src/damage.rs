//! Getting past bytes that cannot be read: a scan that meets a damaged block goes on at the first key from which
//! the database reads again.
//!
//! The database itself cannot go on: after an error its merging iterator has lost a whole table, and would show older
//! rows as if they were the newest. So the scan begins anew beyond the damage, from a key found by halving the
//! space of keys between the last good one and the end.

/// The least key in `(from, end)`, as far as halving finds it, from which reading succeeds; `None` if none does
/// below `end`. Between two damaged places it may pass over readable rows: whoever asks must not take what is
/// missing for absent.
pub(crate) fn first_readable(from: &[u8], end: &[u8], reads: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let common = from.iter().zip(end).take_while(|(a, b)| a == b).count();
    let length = common + 1 + PRECISION_BYTES;
    let (mut bad, mut good) = (digits(from, length), digits(end, length));
    let mut found = None;
    while let Some(middle) = between(&bad, &good) {
        if reads(&middle) {
            found = Some(middle.clone());
            good = middle;
        } else {
            bad = middle;
        }
    }
    found
}

/// A key as a fraction of so many bytes.
fn digits(key: &[u8], length: usize) -> Vec<u8> {
    let mut digits = key[..key.len().min(length)].to_vec();
    digits.resize(length, 0);
    digits
}

/// The middle of two fractions of equal length; `None` if they are neighbours.
fn between(low: &[u8], high: &[u8]) -> Option<Vec<u8>> {
    let mut carry = 0;
    let mut sum: Vec<u16> = vec![0; low.len()];
    for at in (0..low.len()).rev() {
        let digit = u16::from(low[at]) + u16::from(high[at]) + carry;
        (sum[at], carry) = (digit & 0xff, digit >> 8);
    }
    let mut middle = Vec::with_capacity(low.len());
    for digit in sum {
        let halved = digit + carry * 256;
        middle.push((halved / 2) as u8);
        carry = halved % 2;
    }
    (middle.as_slice() > low).then_some(middle)
}

/// Bytes of a key, beyond what both ends share, that are told apart.
const PRECISION_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_damage_is_found() {
        for (from, damage_end) in
            [(&b"\0\x01a"[..], &b"\0\x01k9"[..]), (b"\0\x01", b"\0\x01\x01"), (b"\0\x01k", b"\0\x01kk")]
        {
            let found =
                first_readable(from, b"\0\x02", |key| key > damage_end).expect("it reads after the damage");
            assert!(found.as_slice() > damage_end && found.as_slice() < &[damage_end, b"\x01"].concat()[..]);
        }
    }

    #[test]
    fn damage_up_to_the_end_leaves_nothing() {
        assert_eq!(first_readable(b"\0\x01a", b"\0\x02", |_| false), None);
    }
}
