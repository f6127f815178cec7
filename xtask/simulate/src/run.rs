//! One execution under a scheduler: a result, or the text of whatever went wrong.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, Once};

use ecsdb_io::sync::clock;
use shuttle::scheduler::Scheduler;
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Points at which a thread could have been switched: beyond, an execution is taken for one that never ends.
const STEPS_MAX: usize = 20_000_000;
const STACK_BYTES: usize = 1 << 20;

thread_local!(static PANIC: RefCell<Option<String>> = const { RefCell::new(None) });

/// Runs `f` as the first thread, as often as `scheduler` wants, and gives what it gave last. A panic of any thread, a deadlock, and an
/// execution without an end are errors.
pub(crate) fn under<T: Send + 'static>(
    scheduler: impl Scheduler + 'static,
    f: impl Fn() -> Result<T, String> + Send + Sync + 'static,
) -> Result<T, String> {
    quiet_panics();
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    let result = Arc::new(Mutex::new(Err("it has not run".to_string())));
    let into = result.clone();
    PANIC.take();
    let ran = catch_unwind(AssertUnwindSafe(|| {
        Runner::new(scheduler, config).run(move || {
            clock::reset();
            let ended = f();
            let failed = ended.as_ref().err().cloned();
            *into.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = ended;
            if let Some(why) = failed {
                // So that no further execution follows.
                panic!("{why}");
            }
        })
    }));
    let given = std::mem::replace(
        &mut *result.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        Err(String::new()),
    );
    match (ran, given) {
        (Ok(_), given) => given,
        (Err(_), Err(why)) if why != "it has not run" => Err(why),
        (Err(panic), _) => Err(PANIC.take().unwrap_or_else(|| text_of(&*panic))),
    }
}

/// Keeps the first panic's text and place for the report, and says nothing of its own.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = text_of(info.payload());
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            PANIC.with_borrow_mut(|first| {
                first.get_or_insert_with(|| format!("panicked at {place}: {text}"));
            });
        }));
    });
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "a panic".into())
}
