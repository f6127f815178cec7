//! The data: every flight out of New York in 2013, as tables and one stream of events in time order.
//!
//! What the data leaves out or gets wrong is kept as the fact it is; `docs/demo-data.md` lists the cases, and the tests
//! below count them.

use std::collections::HashMap;
use std::io::Read;

use anyhow::{Context, Result};
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

/// Tables and events.
pub(crate) struct Dataset {
    pub(crate) airlines: Vec<AirlineRow>,
    pub(crate) airports: Vec<AirportRow>,
    pub(crate) planes: Vec<PlaneRow>,
    pub(crate) events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct AirlineRow {
    pub(crate) carrier: String,
    pub(crate) name: String,
}

#[derive(Debug)]
pub(crate) struct AirportRow {
    pub(crate) code: String,
    /// `None` for the four airports that are flown to but not in the table.
    pub(crate) details: Option<AirportDetails>,
}

#[derive(Debug)]
pub(crate) struct AirportDetails {
    pub(crate) name: String,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) altitude_feet: i32,
}

#[derive(Debug)]
pub(crate) struct PlaneRow {
    pub(crate) tail: String,
    /// `None` for planes that fly but are not in the table.
    pub(crate) details: Option<PlaneDetails>,
}

#[derive(Debug, Clone)]
pub(crate) struct PlaneDetails {
    pub(crate) year: Option<u16>,
    pub(crate) manufacturer: String,
    pub(crate) model: String,
    pub(crate) seats: u16,
}

/// Something that happened, at a moment in UTC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Event {
    pub(crate) at: i64,
    pub(crate) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum What {
    /// A flight left its gate.
    Departure(Flight, i16),
    /// A flight arrived; minutes late, unless it had been diverted on the way (then that is not recorded).
    Arrival {
        row: u32,
        destination: u16,
        plane: Option<u16>,
        delay_minutes: Option<i16>,
        air_minutes: u16,
    },
    /// A flight that never left, at the time at which it should have.
    Cancelled(Flight),
    Weather(Weather),
}

/// What is known of a flight before it leaves. Airline, airports and plane are indices into the tables.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Flight {
    /// The row of the data, which tells flights apart.
    pub(crate) row: u32,
    pub(crate) airline: u8,
    pub(crate) origin: u16,
    pub(crate) destination: u16,
    /// `None` where no tail number was recorded.
    pub(crate) plane: Option<u16>,
    pub(crate) number: u16,
    pub(crate) distance_miles: u16,
    pub(crate) scheduled: i64,
}

/// An observation; what was not measured is `None`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Weather {
    pub(crate) airport: u16,
    pub(crate) temperature_f: Option<f32>,
    pub(crate) wind_mph: Option<f32>,
    pub(crate) pressure_mb: Option<f32>,
    pub(crate) visibility_miles: Option<f32>,
}

#[derive(Deserialize)]
struct AirportLine {
    faa: String,
    name: String,
    lat: f64,
    lon: f64,
    alt: i32,
    tzone: String,
}

#[derive(Deserialize)]
struct PlaneLine {
    tailnum: String,
    year: String,
    manufacturer: String,
    model: String,
    seats: u16,
}

#[derive(Deserialize)]
struct FlightLine<'a> {
    dep_delay: &'a str,
    arr_time: &'a str,
    arr_delay: &'a str,
    carrier: &'a str,
    flight: u16,
    tailnum: &'a str,
    origin: &'a str,
    dest: &'a str,
    air_time: &'a str,
    distance: u16,
    minute: i64,
    time_hour: &'a str,
}

#[derive(Deserialize)]
struct WeatherLine<'a> {
    origin: &'a str,
    temp: &'a str,
    wind_speed: &'a str,
    pressure: &'a str,
    visib: &'a str,
    time_hour: &'a str,
}

/// Airports that are flown to and not in the table, with their time zones.
const MISSING_AIRPORTS: [(&str, &str); 4] = [
    ("BQN", "America/Puerto_Rico"),
    ("PSE", "America/Puerto_Rico"),
    ("SJU", "America/Puerto_Rico"),
    ("STT", "America/St_Thomas"),
];

macro_rules! table {
    ($name:literal) => {
        unpack($name, include_bytes!(concat!("../../data/nycflights13/", $name, ".csv.zst")))
    };
}

fn unpack(name: &str, packed: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    zstd::Decoder::new(packed)
        .and_then(|mut decoder| decoder.read_to_end(&mut bytes))
        .with_context(|| format!("unpacking the table {name}"))?;
    Ok(bytes)
}

/// A field that may be `NA`.
fn known<T: std::str::FromStr>(field: &str) -> Result<Option<T>>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    if field == "NA" {
        Ok(None)
    } else {
        Ok(Some(field.parse().with_context(|| format!("the field {field:?}"))?))
    }
}

impl Dataset {
    /// Unpacks and reads everything; well under a second in a release build.
    pub(crate) fn load() -> Result<Dataset> {
        let airlines: Vec<AirlineRow> =
            csv::Reader::from_reader(&*table!("airlines")?).into_deserialize().collect::<Result<_, _>>()?;
        let (airports, zones) = load_airports()?;
        let planes = load_planes()?;
        let mut data = Dataset { airlines, airports, planes, events: Vec::with_capacity(700_000) };
        data.load_flights(&zones).context("the table flights")?;
        data.load_weather().context("the table weather")?;
        // Stable: events of one second keep the order of the data.
        data.events.sort_by_key(|event| (event.at, event.what.rank()));
        Ok(data)
    }

    /// Only what happens up to the departure (or cancellation) of the `flights`-th flight.
    pub(crate) fn truncate(&mut self, flights: usize) {
        let mut left = flights;
        let cut = self.events.iter().position(|event| {
            if matches!(event.what, What::Departure(..) | What::Cancelled(_)) {
                left = left.saturating_sub(1);
            }
            left == 0
        });
        if let Some(cut) = cut {
            self.events.truncate(cut + 1);
        }
    }

    fn load_flights(&mut self, zones: &[TimeZone]) -> Result<()> {
        let airlines: HashMap<String, u8> =
            self.airlines.iter().enumerate().map(|(i, row)| (row.carrier.clone(), i as u8)).collect();
        let airports: HashMap<String, u16> =
            self.airports.iter().enumerate().map(|(i, row)| (row.code.clone(), i as u16)).collect();
        let mut planes: HashMap<String, u16> =
            self.planes.iter().enumerate().map(|(i, row)| (row.tail.clone(), i as u16)).collect();
        let bytes = table!("flights")?;
        let mut reader = csv::Reader::from_reader(&*bytes);
        let headers = reader.headers()?.clone();
        let mut record = csv::StringRecord::new();
        let mut row = 0u32;
        while reader.read_record(&mut record)? {
            let line: FlightLine<'_> = record.deserialize(Some(&headers))?;
            let plane = match line.tailnum {
                "NA" => None,
                tail => Some(*planes.entry(tail.into()).or_insert_with(|| {
                    self.planes.push(PlaneRow { tail: tail.into(), details: None });
                    (self.planes.len() - 1) as u16
                })),
            };
            let airport =
                |code: &str| airports.get(code).copied().with_context(|| format!("unknown airport {code}"));
            let hour: Timestamp = line.time_hour.parse()?;
            let flight = Flight {
                row,
                airline: *airlines
                    .get(line.carrier)
                    .with_context(|| format!("unknown carrier {}", line.carrier))?,
                origin: airport(line.origin)?,
                destination: airport(line.dest)?,
                plane,
                number: line.flight,
                distance_miles: line.distance,
                scheduled: hour.as_second() + line.minute * 60,
            };
            self.flight_events(flight, &line, zones).with_context(|| format!("row {row}"))?;
            row += 1;
        }
        Ok(())
    }

    fn flight_events(&mut self, flight: Flight, line: &FlightLine<'_>, zones: &[TimeZone]) -> Result<()> {
        // The recorded clock time of the departure is scheduled time plus delay, taken modulo a day; the sum is the moment.
        let Some(delay) = known::<i16>(line.dep_delay)? else {
            self.events.push(Event { at: flight.scheduled, what: What::Cancelled(flight) });
            return Ok(());
        };
        let departed = flight.scheduled + i64::from(delay) * 60;
        self.events.push(Event { at: departed, what: What::Departure(flight, delay) });
        // Without an arrival time nobody knows where the plane went: there is no event, and the flight stays in the air.
        let Some(clock) = known::<u16>(line.arr_time)? else { return Ok(()) };
        let at = first_instant_at(clock, departed, &zones[usize::from(flight.destination)])?;
        let what = What::Arrival {
            row: flight.row,
            destination: flight.destination,
            plane: flight.plane,
            delay_minutes: known(line.arr_delay)?,
            air_minutes: known(line.air_time)?.unwrap_or(0),
        };
        self.events.push(Event { at, what });
        Ok(())
    }

    fn load_weather(&mut self) -> Result<()> {
        let bytes = table!("weather")?;
        let mut reader = csv::Reader::from_reader(&*bytes);
        let headers = reader.headers()?.clone();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record)? {
            let line: WeatherLine<'_> = record.deserialize(Some(&headers))?;
            let airport = self.airports.iter().position(|row| row.code == line.origin);
            let weather = Weather {
                airport: airport.with_context(|| format!("unknown airport {}", line.origin))? as u16,
                temperature_f: known(line.temp)?,
                wind_mph: known(line.wind_speed)?,
                pressure_mb: known(line.pressure)?,
                visibility_miles: known(line.visib)?,
            };
            let at = line.time_hour.parse::<Timestamp>()?.as_second();
            self.events.push(Event { at, what: What::Weather(weather) });
        }
        Ok(())
    }
}

impl What {
    /// At one moment: weather first, then arrivals, so that a plane is there before it leaves again.
    fn rank(&self) -> u8 {
        match self {
            What::Weather(_) => 0,
            What::Arrival { .. } => 1,
            What::Departure(..) => 2,
            What::Cancelled(_) => 3,
        }
    }
}

fn load_airports() -> Result<(Vec<AirportRow>, Vec<TimeZone>)> {
    let zone = |name: &str| TimeZone::get(name).with_context(|| format!("time zone {name}"));
    let new_york = zone("America/New_York")?;
    let (mut airports, mut zones) = (Vec::new(), Vec::new());
    for line in csv::Reader::from_reader(&*table!("airports")?).into_deserialize() {
        let line: AirportLine = line.context("the table airports")?;
        // Three small airfields have no zone; no flight of the data goes there.
        zones.push(if line.tzone == "NA" { new_york.clone() } else { zone(&line.tzone)? });
        let details = AirportDetails {
            name: line.name,
            latitude: line.lat,
            longitude: line.lon,
            altitude_feet: line.alt,
        };
        airports.push(AirportRow { code: line.faa, details: Some(details) });
    }
    for (code, name) in MISSING_AIRPORTS {
        airports.push(AirportRow { code: code.into(), details: None });
        zones.push(zone(name)?);
    }
    Ok((airports, zones))
}

fn load_planes() -> Result<Vec<PlaneRow>> {
    let mut planes = Vec::new();
    for line in csv::Reader::from_reader(&*table!("planes")?).into_deserialize() {
        let line: PlaneLine = line.context("the table planes")?;
        let details = PlaneDetails {
            year: known(&line.year)?,
            manufacturer: line.manufacturer,
            model: line.model,
            seats: line.seats,
        };
        planes.push(PlaneRow { tail: line.tailnum, details: Some(details) });
    }
    Ok(planes)
}

/// The first moment after `after` at which the clocks of a zone show `clock` (as in 1459; 2400 is midnight).
fn first_instant_at(clock: u16, after: i64, zone: &TimeZone) -> Result<i64> {
    let minutes = clock / 100 * 60 + clock % 100;
    let time = Time::new((minutes / 60 % 24) as i8, (minutes % 60) as i8, 0, 0)?;
    let mut date: Date = Timestamp::from_second(after)?.to_zoned_datetime(zone.clone()).date();
    loop {
        // A clock time that is skipped in spring is taken an hour later, one that is there twice in autumn the first time.
        let at = date.to_datetime(time).to_zoned_datetime(zone.clone())?.timestamp().as_second();
        if at > after {
            return Ok(at);
        }
        date = date.checked_add(1.day())?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_an_event_and_the_oddities_are_as_documented() {
        let data = Dataset::load().unwrap();
        let mut n = [0usize; 5];
        let mut no_plane = 0;
        let mut unlisted_plane = 0;
        let mut unlisted_airport = 0;
        let mut open: HashMap<u32, (i64, u16)> = HashMap::new();
        let (mut short, mut long) = (0, 0);
        for event in &data.events {
            match event.what {
                What::Departure(flight, _) | What::Cancelled(flight) => {
                    let departed = matches!(event.what, What::Departure(..));
                    n[if departed { 0 } else { 1 }] += 1;
                    no_plane += usize::from(flight.plane.is_none());
                    unlisted_plane += usize::from(
                        flight.plane.is_some_and(|p| data.planes[usize::from(p)].details.is_none()),
                    );
                    unlisted_airport +=
                        usize::from(data.airports[usize::from(flight.destination)].details.is_none());
                    if departed {
                        assert!(open.insert(flight.row, (event.at, 0)).is_none());
                    }
                }
                What::Arrival { row, delay_minutes, air_minutes, .. } => {
                    n[if delay_minutes.is_some() { 2 } else { 3 }] += 1;
                    let (departed, _) = open.remove(&row).expect("a flight departs before it arrives");
                    assert!(event.at > departed);
                    let minutes = (event.at - departed) / 60;
                    if delay_minutes.is_some() {
                        short += usize::from(minutes < i64::from(air_minutes));
                        long += usize::from(minutes > i64::from(air_minutes) + 300);
                    }
                }
                What::Weather(_) => n[4] += 1,
            }
        }
        assert!(data.events.is_sorted_by_key(|event| event.at));
        let [departures, cancelled, arrivals, diverted, weather] = n;
        assert_eq!(departures + cancelled, 336_776);
        assert_eq!((cancelled, arrivals, diverted, open.len()), (8_255, 327_346, 717, 458));
        assert_eq!(weather, 26_115);
        assert_eq!((no_plane, unlisted_plane, unlisted_airport), (2_512, 50_094, 7_602));
        assert_eq!((data.airlines.len(), data.airports.len()), (16, 1_462));
        let unlisted = data.planes.iter().filter(|plane| plane.details.is_none()).count();
        assert_eq!((data.planes.len() - unlisted, unlisted), (3_322, 721));
        assert_eq!((short, long), (0, 0), "the clock times fit the air times");
    }
}
