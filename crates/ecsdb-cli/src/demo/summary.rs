//! The summary at the end: read from the twin, not from the data.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use ecsdb::prelude::*;

use super::twin::{
    ARRIVED, Airline, AirlineStatistics, Airport, AirportStatistics, CANCELLED, FlightState, IN_THE_AIR,
    Plane, PlaneState, WeatherNow,
};
use crate::output::{Output, many};

pub(crate) fn print(view: &View, out: &mut Output) -> Result<()> {
    let mut by_status = [0u64; 4];
    for flight in view.query::<&FlightState>()? {
        by_status[flight.status as usize % 4] += 1;
    }
    let flights = many(by_status.iter().sum(), "flight", "flights");
    out.line(format_args!(
        "{flights}: {} arrived, {} cancelled, {} without a recorded arrival",
        by_status[ARRIVED as usize], by_status[CANCELLED as usize], by_status[IN_THE_AIR as usize],
    ))?;

    let mut airlines: Vec<_> = view.query::<(&Airline, &AirlineStatistics)>()?.collect();
    airlines.sort_by_key(|(_, statistics)| std::cmp::Reverse(statistics.miles));
    let mut table =
        new_table(["airline", "flights", "cancelled", "miles flown", "mean departure delay (min)"]);
    for (airline, s) in airlines {
        table.add_row([
            airline.name.clone(),
            s.flights.to_string(),
            s.cancelled.to_string(),
            s.miles.to_string(),
            mean(s.departure_delay_minutes, s.flights),
        ]);
    }
    out.line(table)?;

    let mut table = new_table([
        "origin",
        "departures",
        "cancelled",
        "mean departure delay (min)",
        "last temperature (°F)",
    ]);
    let query = view.query::<(&Airport, &AirportStatistics, Option<&WeatherNow>)>()?;
    let mut origins: Vec<_> = query.filter(|(_, statistics, _)| statistics.departures > 0).collect();
    origins.sort_by_key(|(_, statistics, _)| std::cmp::Reverse(statistics.departures));
    for (airport, s, weather) in origins {
        table.add_row([
            format!("{} {}", airport.code, airport.name.as_deref().unwrap_or("")),
            s.departures.to_string(),
            s.cancelled.to_string(),
            mean(s.departure_delay_minutes, s.departures),
            weather.map_or("–".into(), |weather| format!("{:.1}", weather.temperature_f)),
        ]);
    }
    out.line(table)?;

    let busiest = view.query::<(&Plane, &PlaneState)>()?.max_by_key(|(_, state)| state.flights);
    if let Some((plane, state)) = busiest {
        let model = match &plane.details {
            Some((manufacturer, model, ..)) => format!(" ({manufacturer} {model})"),
            None => String::new(),
        };
        out.line(format_args!(
            "busiest plane: {}{model}, {}, {}, {} in the air",
            plane.tail,
            many(state.flights, "flight", "flights"),
            many(state.miles, "mile", "miles"),
            many(state.air_minutes / 60, "hour", "hours"),
        ))?;
    }
    Ok(())
}

fn mean(sum: i64, n: u64) -> String {
    if n == 0 { "–".into() } else { format!("{:.1}", sum as f64 / n as f64) }
}

fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
