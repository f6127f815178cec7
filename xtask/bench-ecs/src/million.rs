//! A million entities of two components: making, reading, changing and ending them.

use ecsdb::prelude::*;

use crate::report::{Report, number};
use crate::{Row, beside_peers, own, peer, time, try_time};

pub(crate) type Hecs = (hecs::World, Vec<hecs::Entity>);
pub(crate) type Bevy = (bevy_ecs::world::World, Vec<bevy_ecs::entity::Entity>);

fn shuffled<T>(mut all: Vec<T>) -> Vec<T> {
    fastrand::Rng::with_seed(7).shuffle(&mut all);
    all
}

fn own_pair() -> (own::Position, own::Velocity) {
    (own::Position::default(), own::Velocity { x: 1.0, y: 2.0, z: 3.0 })
}

fn peer_pair() -> (peer::Position, peer::Velocity) {
    (peer::Position::default(), peer::Velocity { x: 1.0, y: 2.0, z: 3.0 })
}

pub(crate) fn own_world(n: usize) -> anyhow::Result<(Database, Vec<Entity>)> {
    let db = Database::in_memory();
    let ids = db.write(|tx| Ok(tx.spawn_batch((0..n).map(|_| own_pair()))))?;
    Ok((db, shuffled(ids)))
}

pub(crate) fn hecs_world(n: usize) -> Hecs {
    let mut world = hecs::World::new();
    let ids = world.spawn_batch((0..n).map(|_| peer_pair())).collect();
    (world, shuffled(ids))
}

pub(crate) fn bevy_world(n: usize) -> Bevy {
    let mut world = bevy_ecs::world::World::new();
    let ids = world.spawn_batch((0..n).map(|_| peer_pair())).collect();
    (world, shuffled(ids))
}

pub(crate) fn run(report: &mut Report, n: usize) -> anyhow::Result<()> {
    spawning(report, n)?;
    structure(report, n)?;
    reading(report, n)?;
    writing(report, n)
}

fn spawning(report: &mut Report, n: usize) -> anyhow::Result<()> {
    beside_peers(
        report,
        "spawn_batch",
        Row {
            ecsdb: &mut || {
                let db = Database::in_memory();
                try_time(n, || db.write(|tx| Ok(tx.spawn_batch((0..n).map(|_| own_pair())))))
            },
            hecs: &mut || {
                let mut world = hecs::World::new();
                time(n, || world.spawn_batch((0..n).map(|_| peer_pair())).collect::<Vec<_>>())
            },
            bevy: &mut || {
                let mut world = bevy_ecs::world::World::new();
                time(n, || world.spawn_batch((0..n).map(|_| peer_pair())).collect::<Vec<_>>())
            },
        },
    )?;
    beside_peers(
        report,
        "spawn_each",
        Row {
            ecsdb: &mut || {
                let db = Database::in_memory();
                try_time(n, || db.write(|tx| Ok((0..n).map(|_| tx.spawn(own_pair())).collect::<Vec<_>>())))
            },
            hecs: &mut || {
                let mut world = hecs::World::new();
                time(n, || (0..n).map(|_| world.spawn(peer_pair())).collect::<Vec<_>>())
            },
            bevy: &mut || {
                let mut world = bevy_ecs::world::World::new();
                time(n, || (0..n).map(|_| world.spawn(peer_pair()).id()).collect::<Vec<_>>())
            },
        },
    )
}

fn structure(report: &mut Report, n: usize) -> anyhow::Result<()> {
    beside_peers(
        report,
        "despawn",
        Row {
            ecsdb: &mut || {
                let (db, ids) = own_world(n)?;
                try_time(n, || db.write(|tx| Ok(ids.iter().try_for_each(|&id| tx.despawn(id))?)))
            },
            hecs: &mut || {
                let (mut world, ids) = hecs_world(n);
                time(n, || ids.iter().try_for_each(|&id| world.despawn(id)))
            },
            bevy: &mut || {
                let (mut world, ids) = bevy_world(n);
                time(n, || ids.iter().filter(|&&id| world.despawn(id)).count())
            },
        },
    )?;
    beside_peers(
        report,
        "insert_remove",
        Row {
            ecsdb: &mut || {
                let (db, ids) = own_world(n)?;
                let insert = |tx: &mut Transaction<'_>| {
                    ids.iter().try_for_each(|&id| tx.insert(id, own::Extra::default()))?;
                    Ok(())
                };
                let remove = |tx: &mut Transaction<'_>| {
                    ids.iter().try_for_each(|&id| tx.remove::<own::Extra>(id).map(drop))?;
                    Ok(())
                };
                try_time(n, || db.write(insert).and_then(|()| db.write(remove)))
            },
            hecs: &mut || {
                let (mut world, ids) = hecs_world(n);
                time(n, || {
                    for &id in &ids {
                        drop(world.insert_one(id, peer::Extra::default()));
                    }
                    ids.iter().filter(|&&id| world.remove_one::<peer::Extra>(id).is_ok()).count()
                })
            },
            bevy: &mut || {
                let (mut world, ids) = bevy_world(n);
                time(n, || {
                    for &id in &ids {
                        world.entity_mut(id).insert(peer::Extra::default());
                    }
                    for &id in &ids {
                        world.entity_mut(id).remove::<peer::Extra>();
                    }
                })
            },
        },
    )
}

fn reading(report: &mut Report, n: usize) -> anyhow::Result<()> {
    if !report.wants_any(&["get_random", "iterate"]) {
        return Ok(());
    }
    let (db, own_ids) = own_world(n)?;
    let (hecs, hecs_ids) = hecs_world(n);
    let (mut bevy, bevy_ids) = bevy_world(n);
    let view = db.view()?;
    beside_peers(
        report,
        "get_random",
        Row {
            ecsdb: &mut || {
                Ok(time(n, || {
                    own_ids.iter().map(|&id| view.get::<own::Position>(id).map_or(0.0, |p| p.x)).sum::<f32>()
                }))
            },
            hecs: &mut || {
                time(n, || {
                    let value = |&id| hecs.get::<&peer::Position>(id).map_or(0.0, |p| p.x);
                    hecs_ids.iter().map(value).sum::<f32>()
                })
            },
            bevy: &mut || {
                time(n, || {
                    let value = |&id| bevy.get::<peer::Position>(id).map_or(0.0, |p| p.x);
                    bevy_ids.iter().map(value).sum::<f32>()
                })
            },
        },
    )?;
    if report.wants("get_random") {
        // Not the reference: it looks the columns up once for all entities.
        let view = hecs.view::<&peer::Position>();
        let through = time(n, || hecs_ids.iter().map(|&id| view.get(id).map_or(0.0, |p| p.x)).sum::<f32>());
        report.note(format!("get_random: hecs through a `View` {}", number(through)));
    }
    const PASSES: usize = 10;
    let mut positions = bevy.query::<&peer::Position>();
    beside_peers(
        report,
        "iterate",
        Row {
            ecsdb: &mut || {
                try_time(n * PASSES, || -> ecsdb::Result<f32> {
                    let mut sum = 0.0;
                    for _ in 0..PASSES {
                        view.query::<&own::Position>()
                            .map_err(ecsdb::Error::from)?
                            .for_each(|p| sum += p.x + p.y + p.z);
                    }
                    Ok(sum)
                })
            },
            hecs: &mut || {
                time(n * PASSES, || {
                    let mut sum = 0.0;
                    for _ in 0..PASSES {
                        hecs.query::<&peer::Position>().iter().for_each(|p| sum += p.x + p.y + p.z);
                    }
                    sum
                })
            },
            bevy: &mut || {
                time(n * PASSES, || {
                    let mut sum = 0.0;
                    for _ in 0..PASSES {
                        positions.iter(&bevy).for_each(|p| sum += p.x + p.y + p.z);
                    }
                    sum
                })
            },
        },
    )
}

fn writing(report: &mut Report, n: usize) -> anyhow::Result<()> {
    if !report.wants_any(&["get_mut_random", "tick"]) {
        return Ok(());
    }
    let (db, own_ids) = own_world(n)?;
    let (mut hecs, hecs_ids) = hecs_world(n);
    let (mut bevy, bevy_ids) = bevy_world(n);
    beside_peers(
        report,
        "get_mut_random",
        Row {
            ecsdb: &mut || {
                try_time(n, || {
                    db.write(|tx| {
                        for &id in &own_ids {
                            tx.get_mut::<own::Position>(id)?.x += 1.0;
                        }
                        Ok(())
                    })
                })
            },
            hecs: &mut || {
                time(n, || {
                    for &id in &hecs_ids {
                        if let Ok(position) = hecs.query_one_mut::<&mut peer::Position>(id) {
                            position.x += 1.0;
                        }
                    }
                })
            },
            bevy: &mut || {
                time(n, || {
                    for &id in &bevy_ids {
                        if let Some(mut position) = bevy.get_mut::<peer::Position>(id) {
                            position.x += 1.0;
                        }
                    }
                })
            },
        },
    )?;
    const DT: f32 = 0.016;
    let (mut positions, velocities) = (vec![peer::Position::default(); n], vec![peer_pair().1; n]);
    report.measure(
        "tick",
        "ns/entity",
        || {
            Ok(time(n, || {
                for (p, v) in std::hint::black_box(&mut positions).iter_mut().zip(&velocities) {
                    p.x += v.x * DT;
                    p.y += v.y * DT;
                    p.z += v.z * DT;
                }
            }))
        },
        || {
            try_time(n, || {
                db.write(|tx| {
                    for (positions, velocities) in tx.query::<(&mut own::Position, &own::Velocity)>().chunks()
                    {
                        for (p, v) in positions.iter_mut().zip(velocities) {
                            p.x += v.x * DT;
                            p.y += v.y * DT;
                            p.z += v.z * DT;
                        }
                    }
                    Ok(())
                })
            })
        },
    )
}
