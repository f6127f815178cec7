//! A live world in a window: it moves 60 times a second, each step one durable transaction, and comes back where it was however it ends.

use std::f32::consts::TAU;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ecsdb::ByteSize;
use ecsdb::prelude::*;
use tauri::Manager;
use tauri::ipc::Response;
use tauri_plugin_ecsdb::EcsdbExt;

const BODIES: usize = 4000;
const STEP: Duration = Duration::from_nanos(1_000_000_000 / 60);

#[derive(Component, Clone, Copy)]
#[component(name = "world.position", plain)]
#[repr(C)]
struct Position {
    x: f32,
    y: f32,
}

#[derive(Component, Clone, Copy)]
#[component(name = "world.velocity", plain)]
#[repr(C)]
struct Velocity {
    x: f32,
    y: f32,
}

/// How often the world has moved.
#[derive(Component, Clone, Copy)]
#[component(name = "world.tick", plain)]
#[repr(C)]
struct Tick(u64);

/// What is drawn: the last step that is on stable storage. Tick and LSN, and then the place of each body.
#[derive(Default)]
struct Frame(Mutex<Vec<u8>>);

/// Three arms and a ring around the middle of a world that is two units wide.
fn begin(tx: &mut Transaction<'_>) {
    let mut random = fastrand::Rng::with_seed(7);
    let bodies: Vec<_> = (0..BODIES)
        .map(|i| {
            let (distance, angle, stray) = match i % 5 {
                0 => (0.82 + 0.03 * random.f32(), random.f32() * TAU, 0.02),
                arm => {
                    let distance = 0.05 + 0.7 * random.f32().powf(1.4);
                    let turn = (arm % 3) as f32 * TAU / 3.0 + distance * 4.0;
                    (distance, turn + 0.5 * (random.f32() - 0.5), 0.3)
                }
            };
            let mut around = || (pull(distance) * distance).sqrt() * stray * (random.f32() - 0.5);
            let (sin, cos) = angle.sin_cos();
            let (out, speed) = (around(), (pull(distance) * distance).sqrt() + around());
            let place = Position { x: distance * cos, y: distance * sin };
            (place, Velocity { x: out * cos - speed * sin, y: out * sin + speed * cos })
        })
        .collect();
    tx.spawn_batch(bodies);
    tx.insert_resource(Tick(0));
}

/// How strongly the middle pulls at this distance.
fn pull(distance: f32) -> f32 {
    const SOFT: f32 = 0.06;
    0.12 * distance / (distance * distance + SOFT).powf(1.5)
}

/// One step.
fn step(tx: &mut Transaction<'_>) -> Result<(), Abort> {
    let time = STEP.as_secs_f32() * 0.6;
    for (place, velocity) in tx.query::<(&mut Position, &mut Velocity)>() {
        let distance = place.x.hypot(place.y).max(1e-6);
        let pull = time * pull(distance) / distance;
        velocity.x -= pull * place.x;
        velocity.y -= pull * place.y;
        place.x += time * velocity.x;
        place.y += time * velocity.y;
    }
    tx.resource_mut::<Tick>()?.0 += 1;
    Ok(())
}

fn look(db: &Database) -> ecsdb::Result<Vec<u8>> {
    let view = db.view()?;
    let mut bytes = Vec::with_capacity(16 + 8 * BODIES);
    bytes.extend(view.resource::<Tick>()?.0.to_le_bytes());
    bytes.extend(view.lsn().0.to_le_bytes());
    for place in view.query::<&Position>()? {
        bytes.extend(place.x.to_le_bytes());
        bytes.extend(place.y.to_le_bytes());
    }
    Ok(bytes)
}

/// Moves the world until it is closed.
fn live(app: &tauri::AppHandle, db: &Database) -> ecsdb::Result<()> {
    let mut next = Instant::now();
    loop {
        db.write(step)?;
        // On stable storage now, and not shown before.
        let frame = look(db)?;
        if let Ok(mut shown) = app.state::<Frame>().0.lock() {
            *shown = frame;
        }
        next = (next + STEP).max(Instant::now());
        std::thread::sleep(next - Instant::now());
    }
}

/// The last step, as bytes.
#[tauri::command]
fn frame(frame: tauri::State<'_, Frame>) -> Response {
    Response::new(frame.0.lock().map(|frame| frame.clone()).unwrap_or_default())
}

/// Ends the process as a power cut ends it: without a word.
#[tauri::command]
fn kill_me() {
    #[cfg(unix)]
    if let Err(e) = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL) {
        eprintln!("{e}");
    }
    std::process::abort();
}

/// Ends the process, and starts it again: on the main thread, where Tauri tells nobody before it does.
#[tauri::command]
fn restart_me(app: tauri::AppHandle) {
    app.restart();
}

fn main() -> tauri::Result<()> {
    tauri::Builder::default()
        .manage(Frame::default())
        .plugin(tauri_plugin_ecsdb::Builder::new().build())
        .invoke_handler(tauri::generate_handler![frame, kill_me, restart_me])
        .setup(|app| {
            let db = app.ecsdb().world()?.clone();
            // Three megabytes of log a second: the disk has them for a while only.
            drop(db.reconfigure_with(|config| config.snapshot.after_log_bytes = ByteSize(64 << 20))?);
            if db.view()?.resource::<Tick>().is_err() {
                db.write(|tx| Ok(begin(tx)))?;
            }
            let app = app.handle().clone();
            std::thread::spawn(move || {
                if let Err(e) = live(&app, &db)
                    && e.kind() != ErrorKind::Closed
                {
                    eprintln!("the world stands still: {e}");
                    app.exit(1);
                }
            });
            Ok(())
        })
        .run(tauri::generate_context!())
}
