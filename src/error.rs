//! Every error that the library returns. A message says what was wrong, where, and what to do next.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in `lea`. Nothing that a user can cause panics: it ends here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation was given tensors whose shapes or types do not fit together.
    #[error("{op}: {problem}")]
    Shape {
        /// Name of the operation.
        op: &'static str,
        /// Shapes expected and found.
        problem: String,
    },
    /// The device has no kernel for the operation.
    #[error("{op} has no kernel for {detail} on device {device}; choose another with --device")]
    Unsupported {
        /// Name of the operation.
        op: &'static str,
        /// Name of the device.
        device: String,
        /// Element type or attribute that is missing.
        detail: String,
    },
    /// The operating system refused to read or write a file.
    #[error("{}: {source}; {}", path.display(), io_remedy(source.kind()))]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// As [`Error::Io`], of a run that goes on once there is room for what it writes.
    #[error(
        "{}: {source}; {} and give the same command with --resume to go on (without --overwrite)",
        path.display(),
        room_remedy(source.kind())
    )]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file was read, but what it holds is not what it should be.
    #[error("{}: {place}: {problem}; {remedy}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, key or tensor inside the file.
        place: String,
        /// What was expected and what was found.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// A setting, flag or combination of them makes no sense.
    #[error("{problem}; {remedy}")]
    Setting {
        /// What is wrong, with the setting's name and value.
        problem: String,
        /// What to do about it.
        remedy: String,
    },
    /// The device went away: its driver was reset or ran out of memory amid the work, or the machine took it.
    #[error("device {device} was lost{}; {}", lost_reason(why), lost_remedy(*resumable))]
    DeviceLost {
        /// Name of the device.
        device: String,
        /// What the driver said; may be empty.
        why: String,
        /// Whether the command can go on from a checkpoint, see [`Error::of_resumable`].
        resumable: bool,
    },
    /// The device has not enough memory.
    #[error("device {device} is out of memory: {problem}; {remedy}")]
    DeviceMemory {
        /// Name of the device.
        device: String,
        /// What was needed for what, and what there was.
        problem: String,
        /// Bytes that were asked for last, where that is known.
        needed: Option<u64>,
        /// Bytes that are allowed, where a limit is set.
        limit: Option<u64>,
        /// What to do about it.
        remedy: String,
    },
    /// The device refused a kernel or a buffer: a defect of this program or of the driver.
    #[error("device {device} refused the work: {why}; try another --device, and report this")]
    DeviceRefused {
        /// Name of the device.
        device: String,
        /// What the driver said.
        why: String,
    },
    /// The user asked a long step to stop, and it did so at a point that it can go on from.
    #[error("interrupted: {place}; give the same command with --resume to go on (without --overwrite)")]
    Interrupted {
        /// Which step, and how far it had come.
        place: String,
    },
}

impl Error {
    /// A shape error of the operation `op`.
    pub fn shape(op: &'static str, problem: impl Into<String>) -> Self {
        Error::Shape { op, problem: problem.into() }
    }

    /// An input/output error at `path`.
    pub fn io(path: impl AsRef<Path>, source: std::io::Error) -> Self {
        Error::Io { path: path.as_ref().to_path_buf(), source }
    }

    /// A file whose content is wrong at `place` (a line, key or tensor name).
    pub fn invalid(
        path: impl AsRef<Path>,
        place: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Error::Invalid {
            path: path.as_ref().to_path_buf(),
            place: place.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// A setting that makes no sense.
    pub fn setting(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Setting { problem: problem.into(), remedy: remedy.into() }
    }

    /// A device that went away under a command of which nothing is known yet.
    pub fn device_lost(device: impl Into<String>, why: impl Into<String>) -> Self {
        Error::DeviceLost { device: device.into(), why: why.into(), resumable: false }
    }

    /// The same error, of a run that can be resumed: one that tells of a full disk or a lost device says so.
    pub fn of_resumable(self) -> Self {
        match self {
            Error::Io { path, source } if is_no_room(source.kind()) => Error::NoRoom { path, source },
            Error::DeviceLost { device, why, .. } => Error::DeviceLost { device, why, resumable: true },
            other => other,
        }
    }

    /// The same error; of one that tells of too little memory and of nothing better to do, with the setting that makes batches
    /// smaller: a flag, or a key of the configuration.
    pub fn with_batch_setting(self, setting: &str) -> Self {
        match &self {
            Error::DeviceMemory { remedy, .. } if remedy == MEMORY_REMEDY => {
                self.with_memory_remedy(&format!("take smaller batches with {setting}, or another --device"))
            }
            _ => self,
        }
    }

    /// The same error; of one that tells of too little memory on a device, with what to do instead.
    pub fn with_memory_remedy(mut self, instead: &str) -> Self {
        if let Error::DeviceMemory { remedy, .. } = &mut self {
            *remedy = instead.into();
        }
        self
    }
}

/// Bytes as messages tell them: three significant digits, so that what is needed can be told from what there is.
pub(crate) fn told_bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        0..1_000 => return format!("{bytes} bytes"),
        // What would round to 1000 is 1.00 of the next.
        1_000..999_500 => (1e3, "kB"),
        999_500..999_500_000 => (1e6, "MB"),
        _ => (1e9, "GB"),
    };
    let many = bytes as f64 / unit;
    let digits = if many < 9.995 { 2 } else { usize::from(many < 99.95) };
    format!("{many:.digits$} {name}")
}

/// What to do about too little memory where nothing is known of the work.
pub(crate) const MEMORY_REMEDY: &str =
    "take smaller packs or batches (the command's --help names the flag) or another --device";

fn io_remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "check the path, or run the step that writes it",
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "give yourself the right to it, or name another place"
        }
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free some space and run the command again, or name a folder on another disk"
        }
        ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f), or name another place",
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::AlreadyExists => {
            "something else stands there: name another path, or move it away"
        }
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => {
            "the file is cut short or damaged: run the step that writes it again"
        }
        _ => "check the path and its disk, then run the command again",
    }
}

/// Whether the system refused to write for want of room.
fn is_no_room(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge)
}

/// Drivers may say nothing.
fn lost_reason(why: &str) -> String {
    match why.trim() {
        "" => String::new(),
        why => format!(" ({why})"),
    }
}

fn lost_remedy(resumable: bool) -> &'static str {
    match resumable {
        true => {
            "give the same command with --resume to go on from its last checkpoint (without --overwrite), or another \
             --device"
        }
        false => "give the same command again, or another --device",
    }
}

fn room_remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::FileTooLarge => "raise the limit on the size of files (ulimit -f)",
        _ => "free some space",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_refused_is_told_with_the_path_first_and_what_to_do_last() {
        for (kind, remedy) in [
            (ErrorKind::NotFound, "run the step that writes it"),
            (ErrorKind::PermissionDenied, "or name another place"),
            (ErrorKind::StorageFull, "or name a folder on another disk"),
            (ErrorKind::Other, "run the command again"),
        ] {
            let message = Error::io("runs/x", std::io::Error::new(kind, "refused")).to_string();
            assert!(message.starts_with("runs/x: refused; ") && message.ends_with(remedy), "{message}");
        }
    }

    #[test]
    fn a_run_that_can_be_resumed_says_so_when_the_disk_is_full_and_only_then() {
        let told = |kind: ErrorKind| {
            Error::io("runs/x", std::io::Error::new(kind, "refused")).of_resumable().to_string()
        };
        for (kind, room) in [
            (ErrorKind::StorageFull, "free some space"),
            (ErrorKind::QuotaExceeded, "free some space"),
            (ErrorKind::FileTooLarge, "ulimit -f"),
        ] {
            let message = told(kind);
            assert!(message.contains(room) && message.contains("same command with --resume"), "{message}");
        }
        assert!(!told(ErrorKind::NotFound).contains("--resume"));
    }

    #[test]
    fn bytes_are_told_by_three_significant_digits() {
        for (bytes, want) in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1_000, "1.00 kB"),
            (9_994, "9.99 kB"),
            (9_996, "10.0 kB"),
            (22_460, "22.5 kB"),
            (277_600, "278 kB"),
            (999_499, "999 kB"),
            (999_500, "1.00 MB"),
            (2_147_483_648, "2.15 GB"),
            (85_899_345_920, "85.9 GB"),
            (u64::MAX, "18446744074 GB"),
        ] {
            assert_eq!(told_bytes(bytes), want);
        }
    }

    #[test]
    fn too_little_memory_names_the_setting_unless_something_better_is_known() {
        let short = |remedy: &str| Error::DeviceMemory {
            device: "webgpu:0".into(),
            problem: "none left".into(),
            needed: None,
            limit: None,
            remedy: remedy.into(),
        };
        let told = |remedy: &str| short(remedy).with_batch_setting("--batch-steps").to_string();
        assert!(
            told(MEMORY_REMEDY).ends_with("; take smaller batches with --batch-steps, or another --device")
        );
        assert!(told("take a smaller decoder").ends_with("; take a smaller decoder"));
    }

    #[test]
    fn a_lost_device_is_told_with_the_reason_there_is_and_with_resume_only_where_that_is_a_flag() {
        let lost = |why: &str| Error::device_lost("webgpu:0", why);
        let message = lost(" ").to_string();
        assert_eq!(message, "device webgpu:0 was lost; give the same command again, or another --device");
        let message = lost("reset").of_resumable().to_string();
        assert!(
            message.starts_with("device webgpu:0 was lost (reset); ") && message.contains("--resume"),
            "{message}"
        );
    }
}
