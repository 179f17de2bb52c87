//! Ctrl-C and SIGTERM: a flag that long steps look at between two consistent points.
//!
//! A program can also set itself a limit of time, after which steps stop in the same way ([`limit`]).
//!
//! A step that sees the flag writes its checkpoint and returns [`Error::Interrupted`]. One that comes to no such point
//! within [`GRACE`] is ended where it stands: files are only ever replaced whole, so the checkpoint before, if there is
//! one, is then the consistent point. A second signal ends the program at once.

use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::Duration;

/// Exit status of a program that was interrupted, as shells have it for Ctrl-C.
pub const EXIT_STATUS: u8 = 130;

/// How long a step may take to its next consistent point. The system needs what is left of two seconds to take back the
/// memory of a process that it ends, on a busy machine.
pub const GRACE: Duration = Duration::from_millis(1000);

/// How often the flag is looked at by the thread that ends the grace.
const GLANCE: Duration = Duration::from_millis(20);

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

static PAST_LIMIT: AtomicBool = AtomicBool::new(false);

/// Consistent points that are still passed before one that takes for ever.
static POINTS_TO_STALL: AtomicU64 = AtomicU64::new(u64::MAX);

/// Turns Ctrl-C and SIGTERM into [`requested`] from now on. For a program, once it has something to resume; `ended` says
/// what is lost and what is not when it is ended amid an operation. The first call decides it.
///
/// # Errors
/// The system refuses to have its signals handled.
pub fn listen(ended: impl FnOnce() -> String + Send + 'static) -> Result<()> {
    static LISTENING: OnceLock<std::io::Result<()>> = OnceLock::new();
    match LISTENING.get_or_init(|| start(ended)) {
        Ok(()) => Ok(()),
        Err(e) => Err(Error::setting(
            format!("signals cannot be handled: {e}"),
            "run lea on a system that has them",
        )),
    }
}

fn start(ended: impl FnOnce() -> String + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        // In this order the first signal sets the flag and only the second finds it set.
        signal_hook::flag::register_conditional_shutdown(
            signal,
            i32::from(EXIT_STATUS),
            Arc::clone(&REQUESTED),
        )?;
        signal_hook::flag::register(signal, Arc::clone(&REQUESTED))?;
    }
    std::thread::Builder::new().name("interrupt".into()).spawn(|| end_after_grace(ended)).map(drop)
}

fn end_after_grace(ended: impl FnOnce() -> String) {
    while !REQUESTED.load(Ordering::Relaxed) {
        std::thread::sleep(GLANCE);
    }
    std::thread::sleep(GRACE);
    eprintln!("{}", Error::Interrupted { place: ended() });
    // Without the exit handlers of libraries (of drivers, say): they would wait for the operation.
    signal_hook::low_level::exit(i32::from(EXIT_STATUS));
}

/// Has steps stop at their next consistent point once `time` has passed. None is ended before that, however far it is.
///
/// # Errors
/// The system has no thread left to wait.
pub fn limit(time: Duration) -> Result<()> {
    let wait = move || {
        std::thread::sleep(time);
        PAST_LIMIT.store(true, Ordering::Relaxed);
    };
    let started = std::thread::Builder::new().name("limit".into()).spawn(wait).map(drop);
    started
        .map_err(|e| Error::setting(format!("no thread can wait for a limit: {e}"), "set no limit of time"))
}

/// Whether a limit of time has passed, and nobody else asked the program to stop.
pub fn past_limit() -> bool {
    PAST_LIMIT.load(Ordering::Relaxed) && !REQUESTED.load(Ordering::Relaxed)
}

/// Whether the program is to stop; to be asked at every consistent point. As cheap as reading three numbers.
pub fn requested() -> bool {
    if POINTS_TO_STALL.load(Ordering::Relaxed) != u64::MAX {
        stall_if_due();
    }
    REQUESTED.load(Ordering::Relaxed) || PAST_LIMIT.load(Ordering::Relaxed)
}

/// Has the program stall for ever after `points` consistent points, as an operation does that takes very long.
pub fn stall_after(points: u64) {
    POINTS_TO_STALL.store(points, Ordering::Relaxed);
}

fn stall_if_due() {
    if POINTS_TO_STALL.fetch_sub(1, Ordering::Relaxed) == 0 {
        loop {
            std::thread::sleep(Duration::from_secs(60));
        }
    }
}

/// [`Error::Interrupted`] at `place` where the program was asked to stop.
pub fn check(place: &str) -> Result<()> {
    if requested() { Err(Error::Interrupted { place: place.into() }) } else { Ok(()) }
}
