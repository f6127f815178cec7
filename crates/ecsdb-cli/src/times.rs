//! Times, which are always shown and read with their zone: RFC 3339. For people in the zone of `TZ` or the system, for programs in UTC.

use std::sync::OnceLock;
use std::time::SystemTime;

use jiff::civil::DateTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use crate::failure;

/// The local zone, and what is wrong with `TZ` where it names none: then it is UTC. A system that says nothing is in UTC.
fn zone() -> (TimeZone, Option<String>) {
    let named = std::env::var_os("TZ").filter(|name| !name.is_empty());
    match (TimeZone::try_system(), named) {
        (Ok(zone), _) => (zone, None),
        (Err(_), None) => (TimeZone::UTC, None),
        (Err(_), Some(name)) => {
            let name = name.to_string_lossy();
            (TimeZone::UTC, Some(format!("the environment variable TZ is {name:?}, which is no time zone")))
        }
    }
}

fn timestamp(unix_ns: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(unix_ns)).ok()
}

/// For people, with all digits: what is read here and given to `--time` is the same moment.
pub(crate) fn local(unix_ns: u64) -> String {
    timestamp(unix_ns).map_or_else(|| unix_ns.to_string(), local_time)
}

/// The same of a time as it was asked for, which may be before all that there are.
pub(crate) fn local_of(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(|_| format!("{time:?}"), local_time)
}

fn local_time(time: Timestamp) -> String {
    static ZONE: OnceLock<TimeZone> = OnceLock::new();
    let zone = ZONE.get_or_init(|| {
        let (zone, wrong) = zone();
        if let Some(wrong) = wrong {
            failure::warn(&format!("{wrong}: times are shown in UTC"));
        }
        zone
    });
    in_zone(time, zone)
}

fn in_zone(time: Timestamp, zone: &TimeZone) -> String {
    format!("{:.9}", time.display_with_offset(zone.to_offset(time)))
}

/// For programs, to the nanosecond; `null` for a time that is not known.
pub(crate) fn json(unix_ns: u64) -> serde_json::Value {
    match timestamp(unix_ns) {
        Some(time) if unix_ns > 0 => time.to_string().into(),
        _ => serde_json::Value::Null,
    }
}

/// Reads a time: with an offset, with the name of a zone, or as the clocks of the local zone show it.
pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let zone = match zone() {
        (zone, None) => Ok(zone),
        (_, Some(wrong)) => Err(format!("{wrong}: write the time with an offset")),
    };
    parse_in(text, zone)
}

fn parse_in(text: &str, zone: Result<TimeZone, String>) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<ZonedDateTime>() {
        return Ok(time.timestamp());
    }
    let Ok(clock) = text.parse::<DateTime>() else {
        let is_time = Pieces::parse(text).is_ok_and(|pieces| pieces.time().is_some());
        return Err(if is_time {
            format!("it is beyond all times that can be told: the last one is {}", Timestamp::MAX)
        } else {
            "write RFC 3339, such as 2026-11-25T07:00:00Z or 2026-11-25T08:00:00+01:00; without an offset it is taken \
             in the local zone (TZ)"
                .into()
        });
    };
    let zone = zone?;
    zone.to_ambiguous_timestamp(clock).unambiguous().map_err(|_| {
        // One of the two, or what the clocks showed the moment before.
        let near =
            zone.to_timestamp(clock).map(|time| time.display_with_offset(zone.to_offset(time)).to_string());
        let example = near.map_or_else(|_| String::new(), |near| format!(", as in {near}"));
        format!("the clocks were changed then, so that this was twice or never: write the offset{example}")
    })
}

pub(crate) fn system_time(time: Timestamp) -> SystemTime {
    let (epoch, since) = (SystemTime::UNIX_EPOCH, time.as_duration().unsigned_abs());
    let time = if time < Timestamp::UNIX_EPOCH { epoch.checked_sub(since) } else { epoch.checked_add(since) };
    time.unwrap_or(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_a_zone_and_of_a_change_of_clocks() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        let at = |text: &str| parse_in(text, Ok(zone.clone())).map(|time| time.to_string());
        assert_eq!(at("2026-07-01T12:00:00").unwrap(), "2026-07-01T10:00:00Z");
        assert_eq!(at("2026-12-01T12:00:00").unwrap(), "2026-12-01T11:00:00Z");
        assert_eq!(at("2026-12-01T12:00:00-05:00").unwrap(), "2026-12-01T17:00:00Z");
        assert_eq!(at("2026-12-01T12:00:00[Asia/Tokyo]").unwrap(), "2026-12-01T03:00:00Z");
        let ambiguous = at("2026-10-25T02:30:00").unwrap_err();
        assert!(
            ambiguous.contains("the clocks were changed") && ambiguous.ends_with("2026-10-25T02:30:00+02:00"),
            "{ambiguous}"
        );
        assert!(at("2026-03-29T02:30:00").unwrap_err().contains("the clocks were changed"));
        assert_eq!(at("2026-10-25T02:30:00+01:00").unwrap(), "2026-10-25T01:30:00Z");
        assert!(at("9999-12-31T23:59:59Z").unwrap_err().contains("beyond all times"));
        assert!(at("yesterday").unwrap_err().contains("RFC 3339"));
        let shown = |text: &str| in_zone(text.parse::<Timestamp>().unwrap(), &zone);
        assert_eq!(shown("2026-10-25T00:30:00Z"), "2026-10-25T02:30:00.000000000+02:00");
        assert_eq!(shown("2026-10-25T01:30:00.123456Z"), "2026-10-25T02:30:00.123456000+01:00");
    }
}
