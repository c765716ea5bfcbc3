//! The forms of single values: durations, sizes, dates, tokens, networks.

use ipnet::IpNet;
use time::{Date, Month, OffsetDateTime};

const DAY_MS: i64 = 86_400_000;
/// How far ahead the end of a legacy signature may lie.
pub(crate) const SUNSET_DAYS: i64 = 90;

/// Milliseconds from `1500`, `500ms`, `30s`, `10m`, `2h` or `7d`.
pub(crate) fn millis(raw: &str) -> Option<u64> {
    scaled(raw, &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)])
}

/// Bytes from `1048576`, `512B`, `64KiB`, `1MiB` or `1GiB`.
pub(crate) fn bytes(raw: &str) -> Option<u64> {
    scaled(raw, &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)])
}

fn scaled(raw: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) = units
        .iter()
        .find_map(|(unit, factor)| Some((raw.strip_suffix(unit)?, *factor)))
        .unwrap_or((raw, 1));
    whole(number.trim_end())?.checked_mul(factor)
}

/// A whole number in decimal digits alone.
pub(crate) fn whole(raw: &str) -> Option<u64> {
    if raw.is_empty() || !raw.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    raw.parse().ok()
}

/// Milliseconds in the largest unit that divides them.
pub(crate) fn spelled_millis(ms: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    UNITS
        .iter()
        .find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit))
        .map_or_else(|| format!("{ms} ms"), |(unit, name)| format!("{} {name}", ms / unit))
}

/// Epoch milliseconds of 00:00 UTC on a day written `YYYY-MM-DD`.
pub(crate) fn date(raw: &str) -> Option<i64> {
    let mut parts = raw.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || (year.len(), month.len(), day.len()) != (4, 2, 2) {
        return None;
    }
    let month = Month::try_from(u8::try_from(whole(month)?).ok()?).ok()?;
    let date = Date::from_calendar_date(
        i32::try_from(whole(year)?).ok()?,
        month,
        u8::try_from(whole(day)?).ok()?,
    )
    .ok()?;
    date.midnight().assume_utc().unix_timestamp().checked_mul(1_000)
}

/// The last moment that a legacy signature may be allowed until.
pub(crate) fn latest_sunset(now_ms: i64) -> i64 {
    now_ms.saturating_add(SUNSET_DAYS * DAY_MS)
}

/// The day of a moment, as `YYYY-MM-DD` in UTC.
pub(crate) fn spelled_date(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000))
        .map_or_else(|_| "a date".to_owned(), |moment| moment.date().to_string())
}

/// Whether this is 1 to 128 printable ASCII characters without blank and comma: a scope, an owner id.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// The items of a list with commas between them; `none` is the empty list.
pub(crate) fn items(raw: &str) -> Vec<&str> {
    if raw == "none" {
        return Vec::new();
    }
    raw.split(',').map(str::trim).collect()
}

/// A network in CIDR form, or one address. Bits beyond the prefix are refused: they are a slip.
pub(crate) fn network(raw: &str) -> Option<IpNet> {
    let net = match raw.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(raw.parse::<std::net::IpAddr>().ok()?),
    };
    (net.trunc() == net).then_some(net)
}

#[cfg(test)]
mod tests {
    use super::{bytes, date, is_token, items, millis, network, spelled_date, spelled_millis};

    #[test]
    fn durations() {
        for (raw, expected) in [
            ("1500", Some(1_500)),
            ("500ms", Some(500)),
            ("30s", Some(30_000)),
            ("10m", Some(600_000)),
            ("2h", Some(7_200_000)),
            ("7d", Some(604_800_000)),
            ("0", Some(0)),
            ("", None),
            ("s", None),
            ("-1", None),
            ("+1", None),
            ("1.5s", None),
            ("1w", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(millis(raw), expected, "{raw}");
        }
        assert_eq!(spelled_millis(604_800_000), "7 d");
        assert_eq!(spelled_millis(1_500), "1500 ms");
        assert_eq!(spelled_millis(0), "0 ms");
    }

    #[test]
    fn sizes() {
        for (raw, expected) in [
            ("1MiB", Some(1_048_576)),
            ("64KiB", Some(65_536)),
            ("1GiB", Some(1_073_741_824)),
            ("10B", Some(10)),
            ("7", Some(7)),
            ("1MB", None),
            ("MiB", None),
        ] {
            assert_eq!(bytes(raw), expected, "{raw}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(date("1970-01-02"), Some(86_400_000));
        assert_eq!(date("2024-02-29"), Some(1_709_164_800_000));
        assert_eq!(spelled_date(1_709_164_800_000), "2024-02-29");
        for raw in ["2023-02-29", "2024-2-9", "2024-02-29-1", "24-02-29", "tomorrow"] {
            assert_eq!(date(raw), None, "{raw}");
        }
    }

    #[test]
    fn tokens_and_networks() {
        assert!(is_token("llm:chat"));
        for bad in ["", "a b", "a,b", "ä", &"x".repeat(129)] {
            assert!(!is_token(bad), "{bad}");
        }
        assert_eq!(items("a, b"), ["a", "b"]);
        assert!(items("none").is_empty());
        assert!(network("10.0.0.0/8").is_some());
        assert!(network("::1").is_some());
        assert!(network("10.0.0.1/8").is_none());
        assert!(network("10.0.0.0/33").is_none());
    }
}
