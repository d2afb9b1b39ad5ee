//! Numbers as people read them, in what a node and its command line say.

/// A number with thin groups of three.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

/// A number of bytes in the largest binary unit that leaves it at 1 or more.
pub fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in units {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = next;
    }
    if unit == "B" || size >= 10.0 { format!("{size:.0} {unit}") } else { format!("{size:.1} {unit}") }
}

/// A span of seconds in whole units of the largest that fits.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_counted() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (49970, "49,970"), (1234567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "row", "rows"), "1 row");
        assert_eq!(counted(2, "row", "rows"), "2 rows");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!([0, 1023, 1024, 10 << 20].map(bytes), ["0 B", "1023 B", "1.0 KiB", "10 MiB"]);
        assert_eq!([5, 65, 7200, 200_000].map(span), ["5 s", "1 min", "2 h", "2 d"]);
    }
}
