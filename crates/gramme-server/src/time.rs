//! Times as people and protocols write them; all are given in milliseconds since 1970.

/// `2026-11-22T17:48:05.123Z`.
pub fn iso(ms: u64) -> String {
    let t = Parts::of(ms);
    let (hour, minute, second) = (t.hour, t.minute, t.second);
    format!("{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", t.year, t.month, t.day, ms % 1000)
}

/// `20261122T174805Z`: for names that sort by time.
pub fn compact(ms: u64) -> String {
    let t = Parts::of(ms);
    let (hour, minute, second) = (t.hour, t.minute, t.second);
    format!("{:04}{:02}{:02}T{hour:02}{minute:02}{second:02}Z", t.year, t.month, t.day)
}

/// `Sun, 22 Nov 2026 17:48:05 GMT`.
pub(crate) fn http_date(ms: u64) -> String {
    let t = Parts::of(ms);
    let (hour, minute, second) = (t.hour, t.minute, t.second);
    let (weekday, month) = (WEEKDAYS[t.weekday], MONTHS[t.month as usize - 1]);
    format!("{weekday}, {:02} {month} {:04} {hour:02}:{minute:02}:{second:02} GMT", t.day, t.year)
}

struct Parts {
    year: u64,
    month: u64,
    day: u64,
    weekday: usize,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Parts {
    /// Days to a date in the proleptic Gregorian calendar, by eras of 400 years that begin in March, so that a
    /// leap day is an era's, a century's and a year's last day.
    fn of(ms: u64) -> Parts {
        let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
        let shifted = days + 719_468;
        let (era, of_era) = (shifted / 146_097, shifted % 146_097);
        let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Parts {
            year: era * 400 + year_of_era + u64::from(month <= 2),
            month,
            day: of_year - (153 * from_march + 2) / 5 + 1,
            weekday: ((days + 4) % 7) as usize,
            hour: second / 3600,
            minute: second / 60 % 60,
            second: second % 60,
        }
    }
}

const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_are_written_as_they_should_be() {
        assert_eq!(iso(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso(951_782_400_007), "2000-02-29T00:00:00.007Z");
        assert_eq!(iso(1_709_251_199_999), "2024-02-29T23:59:59.999Z");
        assert_eq!(iso(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(http_date(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
