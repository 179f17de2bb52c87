//! Ctrl-C and SIGTERM: a flag that long steps look at between two consistent points.
//!
//! A step that sees the flag writes its checkpoint and returns [`Error::Interrupted`]. One that comes to no such point
//! within [`GRACE`] is ended where it stands: files are only ever replaced whole, so the checkpoint before is then the
//! consistent point. A second signal ends the program at once.

use crate::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};
use std::time::{Duration, Instant};

/// Exit status of a program that was interrupted, as shells have it for Ctrl-C.
pub const EXIT_STATUS: u8 = 130;

/// How long a step may take to its next consistent point.
pub const GRACE: Duration = Duration::from_millis(1200);

/// How often the flag is looked at by the thread that ends the grace.
const GLANCE: Duration = Duration::from_millis(100);

static REQUESTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Turns Ctrl-C and SIGTERM into [`requested`] from now on. For a program, once it has something to resume.
///
/// # Errors
/// The system refuses to have its signals handled.
pub fn listen() -> Result<()> {
    static LISTENING: OnceLock<std::io::Result<()>> = OnceLock::new();
    match LISTENING.get_or_init(start) {
        Ok(()) => Ok(()),
        Err(e) => Err(Error::setting(
            format!("signals cannot be handled: {e}"),
            "run lea on a system that has them",
        )),
    }
}

fn start() -> std::io::Result<()> {
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
    std::thread::Builder::new().name("interrupt".into()).spawn(end_after_grace).map(drop)
}

fn end_after_grace() {
    while !requested() {
        std::thread::sleep(GLANCE);
    }
    let seen = Instant::now();
    while seen.elapsed() < GRACE {
        std::thread::sleep(GLANCE);
    }
    let stopped =
        Error::Interrupted { place: "stopped amid a long operation, the last checkpoint holds".into() };
    eprintln!("{stopped}");
    std::process::exit(i32::from(EXIT_STATUS));
}

/// Whether the program was asked to stop. As cheap as reading a number.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// [`Error::Interrupted`] at `place` where the program was asked to stop.
pub fn check(place: &str) -> Result<()> {
    if requested() { Err(Error::Interrupted { place: place.into() }) } else { Ok(()) }
}
