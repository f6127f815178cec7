//! Many archetypes of few entities each: 26 of 20, which have one component in common.

use ecsdb::Prepared;
use ecsdb::prelude::*;

use crate::report::Report;
use crate::{Row, beside_peers, time, try_time};

const EACH: usize = 20;
/// Passes of one measurement, since one takes a microsecond.
const PASSES: usize = 2_000;

macro_rules! letters {
    ($($letter:ident, $name:literal;)*) => {
        mod own {
            #[derive(ecsdb::Component, Clone, Copy)]
            #[component(name = "bench.data", plain)]
            #[repr(C)]
            pub(super) struct Data(pub(super) f32);
            $(
                #[derive(ecsdb::Component, Clone, Copy)]
                #[component(name = $name, plain)]
                #[repr(C)]
                pub(super) struct $letter(pub(super) f32);
            )*
        }
        mod peer {
            #[derive(bevy_ecs::component::Component, Clone, Copy)]
            pub(super) struct Data(pub(super) f32);
            $(
                #[derive(bevy_ecs::component::Component, Clone, Copy)]
                #[allow(dead_code, reason = "makes an archetype")]
                pub(super) struct $letter(pub(super) f32);
            )*
        }

        const ARCHETYPES: usize = [$($name),*].len();

        fn fill_own(tx: &mut Transaction<'_>) {
            $(tx.spawn_batch((0..EACH).map(|_| (own::$letter(0.0), own::Data(1.0))));)*
        }

        fn fill_hecs(world: &mut hecs::World) {
            $(world.spawn_batch((0..EACH).map(|_| (peer::$letter(0.0), peer::Data(1.0))));)*
        }

        fn fill_bevy(world: &mut bevy_ecs::world::World) {
            $(world.spawn_batch((0..EACH).map(|_| (peer::$letter(0.0), peer::Data(1.0))));)*
        }
    };
}

letters! {
    A, "bench.a"; B, "bench.b"; C, "bench.c"; D, "bench.d"; E, "bench.e"; F, "bench.f"; G, "bench.g"; H, "bench.h";
    I, "bench.i"; J, "bench.j"; K, "bench.k"; L, "bench.l"; M, "bench.m"; N, "bench.n"; O, "bench.o"; P, "bench.p";
    Q, "bench.q"; R, "bench.r"; S, "bench.s"; T, "bench.t"; U, "bench.u"; V, "bench.v"; W, "bench.w"; X, "bench.x";
    Y, "bench.y"; Z, "bench.z";
}

pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    if !report.wants_any(&["fragmented", "fragmented_read"]) {
        return Ok(());
    }
    let db = Database::in_memory();
    db.write(|tx| Ok(fill_own(tx)))?;
    let (mut hecs, mut bevy) = (hecs::World::new(), bevy_ecs::world::World::new());
    fill_hecs(&mut hecs);
    fill_bevy(&mut bevy);
    let n = ARCHETYPES * EACH * PASSES;

    // Negated, so that every pass changes every value, however often.
    let mut bevy_writing = bevy.query::<&mut peer::Data>();
    beside_peers(
        report,
        "fragmented",
        Row {
            ecsdb: &mut || {
                try_time(n, || -> ecsdb::Result<()> {
                    for _ in 0..PASSES {
                        db.write(|tx| Ok(tx.query::<&mut own::Data>().for_each(|data| data.0 = -data.0)))?;
                    }
                    Ok(())
                })
            },
            hecs: &mut || {
                time(n, || {
                    for _ in 0..PASSES {
                        hecs.query_mut::<&mut peer::Data>().into_iter().for_each(|data| data.0 = -data.0);
                    }
                })
            },
            bevy: &mut || {
                time(n, || {
                    for _ in 0..PASSES {
                        bevy_writing.iter_mut(&mut bevy).for_each(|mut data| data.0 = -data.0);
                    }
                })
            },
        },
    )?;

    let view = db.view()?;
    let mut own_reading = Prepared::<&own::Data>::new();
    let mut hecs_reading = hecs::PreparedQuery::<&peer::Data>::new();
    let mut bevy_reading = bevy.query::<&peer::Data>();
    beside_peers(
        report,
        "fragmented_read",
        Row {
            ecsdb: &mut || {
                try_time(n, || -> ecsdb::Result<f32> {
                    let mut sum = 0.0;
                    for _ in 0..PASSES {
                        own_reading.view(&view).map_err(ecsdb::Error::from)?.for_each(|data| sum += data.0);
                    }
                    Ok(sum)
                })
            },
            hecs: &mut || {
                time(n, || {
                    let mut sum = 0.0;
                    for _ in 0..PASSES {
                        hecs_reading.query(&hecs).iter().for_each(|data| sum += data.0);
                    }
                    sum
                })
            },
            bevy: &mut || {
                time(n, || {
                    let mut sum = 0.0;
                    for _ in 0..PASSES {
                        bevy_reading.iter(&bevy).for_each(|data| sum += data.0);
                    }
                    sum
                })
            },
        },
    )
}
