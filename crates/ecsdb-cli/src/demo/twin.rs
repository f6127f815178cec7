//! The digital twin: airports, airlines, planes and flights as entities, and what each event does to them.

use anyhow::{Context, Result};
use ecsdb::Ticket;
use ecsdb::prelude::*;

use super::data::{Dataset, Event, Flight, What};

/// An airport's name and place; empty and zero for those that are not in the table.
#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "demo.airport", archived)]
pub(crate) struct Airport {
    pub(crate) code: String,
    pub(crate) name: Option<String>,
    pub(crate) latitude: f64,
    pub(crate) longitude: f64,
    pub(crate) altitude_feet: i32,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "demo.airport_statistics", plain)]
#[repr(C)]
pub(crate) struct AirportStatistics {
    pub(crate) departures: u64,
    pub(crate) arrivals: u64,
    pub(crate) cancelled: u64,
    /// Arrivals after a diversion, whose delay is not recorded.
    pub(crate) diverted: u64,
    pub(crate) departure_delay_minutes: i64,
    pub(crate) arrival_delay_minutes: i64,
}

/// The last observation; NaN where nothing was measured.
#[derive(Component, Clone, Copy)]
#[component(name = "demo.weather", plain)]
#[repr(C)]
pub(crate) struct WeatherNow {
    pub(crate) unix_seconds: i64,
    pub(crate) temperature_f: f32,
    pub(crate) wind_mph: f32,
    pub(crate) pressure_mb: f32,
    pub(crate) visibility_miles: f32,
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "demo.airline", archived)]
pub(crate) struct Airline {
    pub(crate) carrier: String,
    pub(crate) name: String,
}

#[derive(Component, Clone, Copy, Default)]
#[component(name = "demo.airline_statistics", plain)]
#[repr(C)]
pub(crate) struct AirlineStatistics {
    pub(crate) flights: u64,
    pub(crate) cancelled: u64,
    pub(crate) miles: u64,
    pub(crate) departure_delay_minutes: i64,
}

#[derive(Component, Clone, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
#[component(name = "demo.plane", archived)]
pub(crate) struct Plane {
    pub(crate) tail: String,
    /// Manufacturer, model, seats and year, for planes that are in the table.
    pub(crate) details: Option<(String, String, u16, Option<u16>)>,
}

/// Where a plane is and what it did.
#[derive(Component, Clone, Copy)]
#[component(name = "demo.plane_state", plain)]
#[repr(C)]
pub(crate) struct PlaneState {
    /// Where it stands, or where it is bound for.
    pub(crate) airport: Option<Entity>,
    /// The flight that it is on; `None` on the ground.
    pub(crate) flight: Option<Entity>,
    pub(crate) flights: u64,
    pub(crate) miles: u64,
    pub(crate) air_minutes: u64,
}

pub(crate) const IN_THE_AIR: u32 = 1;
pub(crate) const ARRIVED: u32 = 2;
pub(crate) const CANCELLED: u32 = 3;

#[derive(Component, Clone, Copy)]
#[component(name = "demo.flight", plain)]
#[repr(C)]
pub(crate) struct FlightState {
    pub(crate) airline: Entity,
    pub(crate) origin: Entity,
    pub(crate) destination: Entity,
    /// `None` where no tail number was recorded.
    pub(crate) plane: Option<Entity>,
    pub(crate) scheduled: i64,
    pub(crate) departed: i64,
    pub(crate) arrived: i64,
    pub(crate) row: u32,
    pub(crate) number: u32,
    pub(crate) miles: u32,
    pub(crate) status: u32,
}

/// How far the year has come: changed by every transaction, so that a half-applied one could be told.
#[derive(Component, Clone, Copy, Default)]
#[component(name = "demo.progress", plain)]
#[repr(C)]
pub(crate) struct Progress {
    pub(crate) events: u64,
    pub(crate) unix_seconds: i64,
}

/// The ids by the tables' indices, which are no part of the world and found again at each opening.
pub(crate) struct Twin {
    airports: Vec<Entity>,
    airlines: Vec<Entity>,
    planes: Vec<Entity>,
    /// Flights in the air, by row of the data.
    in_the_air: std::collections::HashMap<u32, Entity>,
    done: u64,
}

impl Twin {
    /// Finds the twin in a database, or makes it (one transaction).
    pub(crate) fn open(db: &Database, data: &Dataset) -> Result<Twin> {
        if db.view()?.resource::<Progress>().is_err() {
            db.write(|tx| {
                make_tables(tx, data);
                Ok(())
            })?;
        }
        let view = db.view()?;
        let mut twin = Twin {
            airports: by_name(
                &data.airports,
                |row| &row.code,
                view.query::<(Entity, &Airport)>()?,
                |a| &a.code,
            )?,
            airlines: by_name(
                &data.airlines,
                |row| &row.carrier,
                view.query::<(Entity, &Airline)>()?,
                |a| &a.carrier,
            )?,
            planes: by_name(
                &data.planes,
                |row| &row.tail,
                view.query::<(Entity, &Plane)>()?,
                |plane| &plane.tail,
            )?,
            in_the_air: std::collections::HashMap::new(),
            done: view.resource::<Progress>()?.events,
        };
        for (entity, flight) in view.query::<(Entity, &FlightState)>()? {
            if flight.status == IN_THE_AIR {
                twin.in_the_air.insert(flight.row, entity);
            }
        }
        Ok(twin)
    }

    /// Events done so far.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }

    /// The next event's transaction; `None` when the year is over.
    pub(crate) fn step(&mut self, db: &Database, data: &Dataset) -> Result<Option<Ticket<()>>> {
        let Some(event) = data.events.get(self.done as usize) else { return Ok(None) };
        let ticket = db.submit(|tx| self.apply(tx, event)).with_context(|| format!("event {}", self.done))?;
        self.done += 1;
        Ok(Some(ticket))
    }

    fn apply(&mut self, tx: &mut Transaction<'_>, event: &Event) -> Result<(), Abort> {
        let progress = tx.resource_mut::<Progress>()?;
        progress.events += 1;
        progress.unix_seconds = event.at;
        match &event.what {
            What::Departure(flight, delay) => self.depart(tx, event.at, flight, *delay),
            What::Arrival { row, destination, plane, delay_minutes, air_minutes } => {
                let id = self
                    .in_the_air
                    .remove(row)
                    .ok_or_else(|| Abort::new("an arrival before its departure"))?;
                let flight = tx.get_mut::<FlightState>(id)?;
                (flight.status, flight.arrived) = (ARRIVED, event.at);
                let airport = tx.get_mut::<AirportStatistics>(self.airports[usize::from(*destination)])?;
                airport.arrivals += 1;
                match delay_minutes {
                    Some(delay) => airport.arrival_delay_minutes += i64::from(*delay),
                    None => airport.diverted += 1,
                }
                if let Some(plane) = plane {
                    let state = tx.get_mut::<PlaneState>(self.planes[usize::from(*plane)])?;
                    state.air_minutes += u64::from(*air_minutes);
                    // It may be on its next flight already: clock times of the data overlap now and then.
                    if state.flight == Some(id) {
                        state.flight = None;
                    }
                }
                Ok(())
            }
            What::Cancelled(flight) => {
                tx.spawn(self.flight(flight, CANCELLED, 0));
                tx.get_mut::<AirportStatistics>(self.airports[usize::from(flight.origin)])?.cancelled += 1;
                tx.get_mut::<AirlineStatistics>(self.airlines[usize::from(flight.airline)])?.cancelled += 1;
                Ok(())
            }
            What::Weather(weather) => {
                let or_nan = |value: Option<f32>| value.unwrap_or(f32::NAN);
                let now = WeatherNow {
                    unix_seconds: event.at,
                    temperature_f: or_nan(weather.temperature_f),
                    wind_mph: or_nan(weather.wind_mph),
                    pressure_mb: or_nan(weather.pressure_mb),
                    visibility_miles: or_nan(weather.visibility_miles),
                };
                Ok(tx.insert(self.airports[usize::from(weather.airport)], now)?)
            }
        }
    }

    fn depart(
        &mut self,
        tx: &mut Transaction<'_>,
        at: i64,
        flight: &Flight,
        delay: i16,
    ) -> Result<(), Abort> {
        let id = tx.spawn(self.flight(flight, IN_THE_AIR, at));
        self.in_the_air.insert(flight.row, id);
        let airport = tx.get_mut::<AirportStatistics>(self.airports[usize::from(flight.origin)])?;
        airport.departures += 1;
        airport.departure_delay_minutes += i64::from(delay);
        let airline = tx.get_mut::<AirlineStatistics>(self.airlines[usize::from(flight.airline)])?;
        airline.flights += 1;
        airline.miles += u64::from(flight.distance_miles);
        airline.departure_delay_minutes += i64::from(delay);
        if let Some(plane) = flight.plane {
            let state = tx.get_mut::<PlaneState>(self.planes[usize::from(plane)])?;
            state.airport = Some(self.airports[usize::from(flight.destination)]);
            state.flight = Some(id);
            state.flights += 1;
            state.miles += u64::from(flight.distance_miles);
        }
        Ok(())
    }

    fn flight(&self, flight: &Flight, status: u32, departed: i64) -> FlightState {
        FlightState {
            airline: self.airlines[usize::from(flight.airline)],
            origin: self.airports[usize::from(flight.origin)],
            destination: self.airports[usize::from(flight.destination)],
            plane: flight.plane.map(|plane| self.planes[usize::from(plane)]),
            scheduled: flight.scheduled,
            departed,
            arrived: 0,
            row: flight.row,
            number: u32::from(flight.number),
            miles: u32::from(flight.distance_miles),
            status,
        }
    }
}

fn make_tables(tx: &mut Transaction<'_>, data: &Dataset) {
    tx.insert_resource(Progress::default());
    tx.spawn_batch(data.airports.iter().map(|row| {
        let place =
            row.details.as_ref().map_or((0.0, 0.0, 0), |d| (d.latitude, d.longitude, d.altitude_feet));
        let airport = Airport {
            code: row.code.clone(),
            name: row.details.as_ref().map(|details| details.name.clone()),
            latitude: place.0,
            longitude: place.1,
            altitude_feet: place.2,
        };
        (airport, AirportStatistics::default())
    }));
    tx.spawn_batch(data.airlines.iter().map(|row| {
        (Airline { carrier: row.carrier.clone(), name: row.name.clone() }, AirlineStatistics::default())
    }));
    tx.spawn_batch(data.planes.iter().map(|row| {
        let details = row.details.clone().map(|d| (d.manufacturer, d.model, d.seats, d.year));
        let state = PlaneState { airport: None, flight: None, flights: 0, miles: 0, air_minutes: 0 };
        (Plane { tail: row.tail.clone(), details }, state)
    }));
}

/// The entities in the order of a table's rows, matched by name.
fn by_name<'a, R, C: 'a>(
    rows: &[R],
    row_name: impl Fn(&R) -> &str,
    entities: impl Iterator<Item = (Entity, &'a C)>,
    name: impl Fn(&'a C) -> &'a str,
) -> Result<Vec<Entity>> {
    let known: std::collections::HashMap<&str, Entity> =
        entities.map(|(id, value)| (name(value), id)).collect();
    rows.iter()
        .map(|row| {
            known.get(row_name(row)).copied().with_context(|| format!("the twin has no {}", row_name(row)))
        })
        .collect()
}
