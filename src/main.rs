//! The `lea` program: parses the command line and hands over to [`lea::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match lea::cli::run(lea::cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e @ lea::Error::Interrupted { .. }) => {
            eprintln!("{e}");
            ExitCode::from(lea::interrupt::EXIT_STATUS)
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}
